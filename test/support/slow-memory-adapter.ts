import { setTimeout as sleep } from 'node:timers/promises'
import type { Adapter, AdapterPayload } from 'oidc-provider'

/**
 * A plain oidc-provider adapter in memory that takes 2 ms for each call, as a database over a network does. It keeps what
 * it is given and nothing else, as the adapters in oidc-provider's own documentation do.
 */
export function slowMemoryAdapter(): (model: string) => Adapter {
  const rows = new Map<string, AdapterPayload>()
  const copy = (payload: AdapterPayload | undefined) => payload && structuredClone(payload)
  const findWhere = (model: string, matches: (payload: AdapterPayload) => boolean) =>
    copy([...rows].find(([key, payload]) => key.startsWith(`${model}:`) && matches(payload))?.[1])

  return (model) => ({
    async upsert(id, payload) {
      await sleep(2)
      rows.set(`${model}:${id}`, structuredClone(payload))
    },
    async find(id) {
      await sleep(2)
      return copy(rows.get(`${model}:${id}`))
    },
    async findByUid(uid) {
      await sleep(2)
      return findWhere(model, (payload) => payload.uid === uid)
    },
    async findByUserCode(userCode) {
      await sleep(2)
      return findWhere(model, (payload) => payload.userCode === userCode)
    },
    async consume(id) {
      await sleep(2)
      const payload = rows.get(`${model}:${id}`)
      if (payload) payload.consumed = Math.floor(Date.now() / 1000)
    },
    async destroy(id) {
      await sleep(2)
      rows.delete(`${model}:${id}`)
    },
    async revokeByGrantId(grantId) {
      await sleep(2)
      for (const [key, payload] of rows) {
        if (key.startsWith(`${model}:`) && payload.grantId === grantId) rows.delete(key)
      }
    },
  })
}

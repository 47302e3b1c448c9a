import { expect, it } from 'vitest'
import { resolveBackchannelOptions } from '../../src/op/delivery/backchannel-options.ts'
import { createBudgets } from '../../src/op/delivery/budgets.ts'
import { attemptReporter } from '../../src/op/delivery/report-attempt.ts'
import { createLatest, mostKept } from '../../src/op/latest.ts'
import type { OpLogEvent } from '../../src/op/log.ts'
import type { ClaimedDelivery } from '../../src/op/store/contract.ts'

// A worker lives for months, and clients that register themselves come and go: nothing that is kept by client grows for ever.

it('keeps so many names, those that were noted last', () => {
  const latest = createLatest<number>(2)
  latest.set('a', 1)
  latest.set('b', 2)
  latest.set('a', 3)
  latest.set('c', 4)
  expect(['a', 'b', 'c'].map((name) => latest.get(name))).toEqual([3, undefined, 4])
  latest.delete('a')
  latest.set('d', 5)
  expect(['c', 'd'].map((name) => latest.get(name))).toEqual([4, 5])
})

it('asks the store once whether a URI has answered, and again where very many came since [T8]', async () => {
  let asked = 0
  const hasAnswered = async (): Promise<boolean> => {
    asked += 1
    return true
  }
  let now = 0
  const budgets = createBudgets({
    store: { hasAnswered, takeAttempt: async () => undefined, noteAnswered: async () => {} },
    runtime: { now: () => now, random: (bytes) => new Uint8Array(bytes) },
    options: resolveBackchannelOptions(),
    log: () => {},
  })
  const attempt = async (name: string): Promise<void> => {
    now += 1000
    const turn = budgets.start(name)
    await turn.admissionOf({ url: `https://${name}.example/logout`, isRegistered: true })?.admit([name])
    turn.end()
  }
  await attempt('first')
  await attempt('first')
  expect(asked).toBe(1)
  for (let i = 0; i < mostKept; i++) await attempt(`rp-${i}`)
  await attempt(`rp-${mostKept - 1}`)
  expect(asked).toBe(1 + mostKept)
  await attempt('first')
  expect(asked).toBe(2 + mostKept)
})

it('says again that the egress policy refuses an RP where very many were refused since', () => {
  const log: OpLogEvent[] = []
  const report = attemptReporter(
    (entry) => log.push(entry),
    () => {},
  )
  const refuse = (clientId: string): void => {
    const logout = { id: 'l', uid: 'u', accountId: 'a', cause: 'admin', endedAt: 0 } as const
    const row = {
      id: 'd',
      logout,
      clientId,
      sid: 's',
      state: 'in-flight',
      attempts: 0,
      createdAt: 0,
      dueAt: 0,
    } as const
    const delivery: ClaimedDelivery = { ...row, fence: 1, wasDueAt: 0, refusals: 0 }
    report(delivery, { outcome: { state: 'due', why: 'egress', retryAt: 0 }, cause: new Error('refused') })
  }
  const said = (): number => log.filter(({ event }) => event === 'egress_refused').length
  refuse('first')
  refuse('first')
  expect(said()).toBe(1)
  for (let i = 0; i < mostKept; i++) refuse(`rp-${i}`)
  refuse('first')
  expect(said()).toBe(2 + mostKept)
})

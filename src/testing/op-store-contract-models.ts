import { deepEqual, equal } from 'node:assert/strict'
import type { StoredModel } from '../op/store/contract.ts'
import { issuer, type Law } from './op-store-bench.ts'

/** What an OP store promises about models and secrets. */
export function modelContract(law: Law, durable: boolean): void {
  law('gives a model back as it was stored', async ({ op, runtime }) => {
    const model: StoredModel = {
      kind: 'AccessToken',
      handle: 'h',
      payload: { scope: 'openid', nested: { list: [1, 'two', null] } },
      expiresAt: seconds(runtime.now()) + 60,
      grantId: 'g',
      accountId: 'alice',
      clientId: 'notes',
      alias: 'a',
    }
    await op.putModel(model)
    const kept = { ...model, since: runtime.now() }
    deepEqual(await op.getModel('AccessToken', { handle: 'h' }), kept)
    deepEqual(await op.getModel('AccessToken', { alias: 'a' }), kept)
    equal(await op.getModel('RefreshToken', { handle: 'h' }), undefined)
  })

  law('replaces a model stored under the same handle', async ({ op }) => {
    await op.putModel({ kind: 'Interaction', handle: 'h', payload: { step: 1 }, alias: 'old' })
    await op.putModel({ kind: 'Interaction', handle: 'h', payload: { step: 2 }, alias: 'new' })
    deepEqual((await op.getModel('Interaction', { handle: 'h' }))?.payload, { step: 2 })
    equal(await op.getModel('Interaction', { alias: 'old' }), undefined)
  })

  law('returns no model from the second at which it expires', async ({ op, runtime }) => {
    await op.putModel({
      kind: 'AccessToken',
      handle: 'h',
      payload: {},
      expiresAt: seconds(runtime.now()) + 60,
      alias: 'a',
    })
    runtime.pass(59_000)
    equal((await op.getModel('AccessToken', { handle: 'h' }))?.handle, 'h')
    runtime.pass(1_000)
    equal(await op.getModel('AccessToken', { handle: 'h' }), undefined)
    equal(await op.getModel('AccessToken', { alias: 'a' }), undefined)
  })

  law('lists the living models of a kind in parts', async ({ op, store, runtime }) => {
    const handles = Array.from({ length: 25 }, (_, i) => `c${String(i).padStart(2, '0')}`)
    for (const handle of handles) await op.putModel({ kind: 'Client', handle, payload: { client_id: handle } })
    await op.putModel({ kind: 'AccessToken', handle: 'c99', payload: {} })
    await op.putModel({ kind: 'Client', handle: 'gone', payload: {}, expiresAt: seconds(runtime.now()) + 1 })
    await store.forIssuer('https://other.example', runtime).putModel({ kind: 'Client', handle: 'd', payload: {} })
    runtime.pass(1000)
    const seen: string[] = []
    for (let after = ''; ; ) {
      const part = await op.listModels('Client', { after, limit: 10 })
      seen.push(...part.map(({ handle, payload }) => `${handle} ${String(payload.client_id)}`))
      const last = part.at(-1)
      if (!last) break
      after = last.handle
    }
    deepEqual(
      seen,
      handles.map((handle) => `${handle} ${handle}`),
    )
  })

  law('marks a model as consumed with the time', async ({ op, runtime }) => {
    await op.putModel({ kind: 'AuthorizationCode', handle: 'h', payload: { a: 1 } })
    await op.consumeModel('AuthorizationCode', 'h')
    deepEqual((await op.getModel('AuthorizationCode', { handle: 'h' }))?.payload, {
      a: 1,
      consumed: seconds(runtime.now()),
    })
    await op.consumeModel('AuthorizationCode', 'unknown')
  })

  law('deletes one model, or those of one kind under a grant', async ({ op }) => {
    await op.putModel({ kind: 'AccessToken', handle: 'a1', payload: {}, grantId: 'g' })
    await op.putModel({ kind: 'AccessToken', handle: 'a2', payload: {}, grantId: 'g' })
    await op.putModel({ kind: 'AccessToken', handle: 'a3', payload: {}, grantId: 'other' })
    await op.putModel({ kind: 'RefreshToken', handle: 'r1', payload: {}, grantId: 'g' })
    await op.deleteModel('AccessToken', 'a1')
    equal(await op.getModel('AccessToken', { handle: 'a1' }), undefined)
    await op.deleteModelsByGrant('AccessToken', 'g')
    equal(await op.getModel('AccessToken', { handle: 'a2' }), undefined)
    equal((await op.getModel('AccessToken', { handle: 'a3' }))?.handle, 'a3')
    equal((await op.getModel('RefreshToken', { handle: 'r1' }))?.handle, 'r1')
  })

  law('takes any text as handle and any key in a payload', async ({ op }) => {
    for (const handle of ['__proto__', 'constructor', "' OR 1=1 --", '\u0000', '%', '🔑']) {
      const payload = JSON.parse('{"__proto__": {"polluted": true}, "constructor": 1}') as Record<string, unknown>
      await op.putModel({ kind: 'Interaction', handle, payload })
      const found = await op.getModel('Interaction', { handle })
      equal(found?.handle, handle)
      equal(JSON.stringify(found?.payload), JSON.stringify(payload))
    }
    equal(Object.hasOwn(Object.prototype, 'polluted'), false)
  })

  law('makes a secret once, also when two ask at the same time', async ({ op }) => {
    let made = 0
    const make = async (): Promise<string> => `secret-${++made}`
    const answers = await Promise.all([op.secret('keys', make), op.secret('keys', make), op.secret('keys', make)])
    equal(new Set(answers).size, 1)
    equal(await op.secret('keys', async () => 'another'), answers[0])
    equal(await op.secret('cookies', async () => 'another'), 'another')
  })

  law('replaces a secret for one of those who read the same value', async ({ op }) => {
    await op.secret('keys', async () => 'first')
    const answers = await Promise.all(['second', 'third'].map((to) => op.replaceSecret('keys', 'first', to)))
    deepEqual(answers.toSorted(), [false, true])
    equal(await op.secret('keys', async () => 'another'), answers[0] ? 'second' : 'third')
    equal(await op.replaceSecret('cookies', 'nothing', 'something'), false)
    equal(await op.secret('cookies', async () => 'made'), 'made')
  })

  law('keeps issuers apart [T20]', async ({ store, op, runtime }) => {
    const other = store.forIssuer('https://other.example', runtime)
    await op.putModel({ kind: 'AccessToken', handle: 'h', payload: {}, grantId: 'g', alias: 'a' })
    equal(await other.getModel('AccessToken', { handle: 'h' }), undefined)
    equal(await other.getModel('AccessToken', { alias: 'a' }), undefined)
    await other.deleteModel('AccessToken', 'h')
    await other.deleteModelsByGrant('AccessToken', 'g')
    await other.consumeModel('AccessToken', 'h')
    deepEqual((await op.getModel('AccessToken', { handle: 'h' }))?.payload, {})
    equal(await op.secret('keys', async () => 'ours'), 'ours')
    equal(await other.secret('keys', async () => 'theirs'), 'theirs')
  })

  if (!durable) return

  law('has models and secrets again after a restart', async ({ store, op, runtime, reopen }) => {
    await op.putModel({ kind: 'RefreshToken', handle: 'h', payload: { a: 1 } })
    await op.secret('keys', async () => 'first')
    await store.close()
    const again = await reopen?.()
    const reopened = again?.forIssuer(issuer, runtime)
    deepEqual((await reopened?.getModel('RefreshToken', { handle: 'h' }))?.payload, { a: 1 })
    equal(await reopened?.secret('keys', async () => 'second'), 'first')
    await again?.close()
  })
}

function seconds(milliseconds: number): number {
  return Math.floor(milliseconds / 1000)
}

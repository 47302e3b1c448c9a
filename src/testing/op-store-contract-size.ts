import { deepEqual, equal } from 'node:assert/strict'
import { type Law, loggedIn, opSession } from './op-store-bench.ts'

const many = 10_000
/** How many are under way at once. */
const abreast = 50

/** What an OP store promises about an account that is signed in everywhere: a kiosk's, a load test's, an attacker's. */
export function sizeContract(law: Law): void {
  law('keeps 10,000 OP sessions of one account, and ends one of them alone', async ({ op, runtime }) => {
    const save = (i: number): Promise<unknown> =>
      op.saveOpSession(opSession(runtime, { uid: `uid-${i}`, handle: `handle-${i}`, rps: [loggedIn('notes')] }))
    for (let from = 0; from < many; from += abreast) {
      await Promise.all(Array.from({ length: abreast }, (_, i) => save(from + i)))
    }
    equal(await op.countOpSessions({ accountId: 'alice' }), many)
    const ended = await op.endOpSession('uid-5000', { cause: 'admin' }, (told) => told)
    equal(ended?.deliveries.length, 1)
    const { sessions: left } = await op.listOpSessions({ accountId: 'alice' }, { limit: many })
    equal(left.length, many - 1)
    equal(
      left.some(({ uid }) => uid === 'uid-5000'),
      false,
    )
    deepEqual((await op.getOpSession({ handle: 'handle-5001' }))?.uid, 'uid-5001')
  })
}

import { sqliteStore } from '../../src/op-sqlite.ts'
import { world } from '../../src/runtime/runtime.ts'

// An OP process that erases an account and dies where it is told to: after the first of several steps, or in the transaction of
// the second.
const [file = '', moment] = process.argv.slice(2)
/** How often the store may ask for the time before the process dies. */
let questions = Number.POSITIVE_INFINITY
const now = (): number => {
  questions -= 1
  if (questions < 0) process.kill(process.pid, 'SIGKILL')
  return world.now()
}
const store = sqliteStore(file).forIssuer('https://op.example', { ...world, now })
const step = () => store.eraseSome({ limit: 10, pause: 0, wait: 60_000 })
const hers = { accountId: 'ada', payload: { accountId: 'ada' } }

for (let i = 0; i < 2500; i++) {
  await store.putModel({ kind: 'AccessToken', handle: `hers ${i}`, grantId: `grant ${i}`, ...hers })
}
await store.putModel({ kind: 'AccessToken', handle: 'his', grantId: 'his', accountId: 'bob', payload: {} })
const { id } = await store.eraseAccount('ada', { cause: 'account_deleted', revokeOffline: true })
console.log(id)
await step()
questions = moment === 'in the second step' ? 1 : 0 // the step asks first what is due, and then how long its tombstones last
await step()

import { postgresStore } from '../../src/op-postgres.ts'
import { sqliteStore } from '../../src/op-sqlite.ts'
import { world } from '../../src/runtime/runtime.ts'

// An OP process that erases an account and dies where it is told to: after the first of several steps, or in the transaction of
// the second.
const [place = '', moment] = process.argv.slice(2)
/** How often the store may ask for the time before the process dies. */
let questions = Number.POSITIVE_INFINITY
const now = (): number => {
  questions -= 1
  if (questions < 0) process.kill(process.pid, 'SIGKILL')
  return world.now()
}
const isPostgres = place.startsWith('postgres:')
const opened = isPostgres ? postgresStore({ connectionString: place }) : sqliteStore(place)
const store = opened.forIssuer('https://op.example', { ...world, now })
const step = () => store.eraseSome({ limit: 10, pause: 0, wait: 60_000 })
const hers = { accountId: 'ada', payload: { accountId: 'ada' } }

const all = Array.from({ length: 2500 }, (_, i) => ({ handle: `hers ${i}`, grantId: `grant ${i}`, ...hers }))
for (let done = 0; done < all.length; done += 100) {
  await Promise.all(all.slice(done, done + 100).map((each) => store.putModel({ kind: 'AccessToken', ...each })))
}
await store.putModel({ kind: 'AccessToken', handle: 'his', grantId: 'his', accountId: 'bob', payload: {} })
const { id } = await store.eraseAccount('ada', { cause: 'account_deleted', revokeOffline: true })
console.log(id)
await step()
// The step asks first what is due (PostgreSQL's then, what has expired), and in its transaction how long its tombstones last.
questions = moment === 'in the second step' ? (isPostgres ? 2 : 1) : 0
await step()

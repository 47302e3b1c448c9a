import { resolveBackchannelOptions } from '../../../src/op/delivery/backchannel-options.ts'
import { startOutbox } from '../../../src/op/delivery/outbox.ts'
import { sqliteStore } from '../../../src/op-sqlite.ts'
import { egress } from '../../../src/runtime/egress.ts'
import { world } from '../../../src/runtime/runtime.ts'

// An OP process that dies where it is told to: while the transaction that ends an OP session is open, right after its
// commit, or (killed from outside) while the RP holds its POST.
const [file = '', url = '', moment] = process.argv.slice(2)
const network = egress({ allow: ['127.0.0.1'] })
const store = sqliteStore(file).forIssuer('https://op.example', world)
const die = (): never => {
  process.kill(process.pid, 'SIGKILL')
  throw new Error('not reached')
}

await store.saveOpSession({
  uid: 'uid',
  handle: 'handle',
  accountId: 'alice',
  payload: {},
  rps: [{ clientId: 'notes', sid: 'sid', grantId: 'grant', persistsLogout: false }],
  expiresAt: Math.floor(world.now() / 1000) + 3600,
  extend: true,
})
await store.putModel({ kind: 'Grant', handle: 'grant-handle', payload: {}, grantId: 'grant' })
const outbox = startOutbox({
  store,
  runtime: { ...world, post: network.post },
  options: resolveBackchannelOptions(),
  log: () => {},
  findReceiver: async () => ({ url, isRegistered: false }),
  mint: async () => 'token of the process that was killed',
})
await store.endOpSession('uid', { cause: 'op_logout' }, (rps) => (moment === 'in the transaction' ? die() : rps))
if (moment === 'after the commit') die()
outbox.wake()

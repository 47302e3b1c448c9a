import { resolveBackchannelOptions } from '../../../src/op/delivery/backchannel-options.ts'
import { startOutbox } from '../../../src/op/delivery/outbox.ts'
import { postgresStore } from '../../../src/op-postgres.ts'
import { egress } from '../../../src/runtime/egress.ts'
import { world } from '../../../src/runtime/runtime.ts'

// A node that is killed while the RP holds its POST. Its leases last a second, so that the test need not wait for longer.
const [connectionString = '', url = ''] = process.argv.slice(2)
const network = egress({ allow: ['127.0.0.1'] })
const store = postgresStore({ connectionString }).forIssuer('https://op.example', world)

await store.saveOpSession({
  uid: 'uid',
  handle: 'handle',
  accountId: 'alice',
  payload: {},
  rps: [{ clientId: 'notes', sid: 'sid', grantId: 'grant', persistsLogout: false }],
  expiresAt: Math.floor(world.now() / 1000) + 3600,
  extend: true,
})
await store.endOpSession('uid', { cause: 'op_logout' }, (rps) => rps)
startOutbox({
  store: { ...store, claimDue: (options) => store.claimDue({ ...options, lease: 1000 }) },
  runtime: { ...world, post: network.post },
  options: resolveBackchannelOptions(),
  log: () => {},
  findReceiver: async () => ({ url, isRegistered: false }),
  mint: async () => 'token of the node that was killed',
})

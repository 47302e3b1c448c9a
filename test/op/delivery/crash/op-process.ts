import { flushCompileCache } from 'node:module'
import type { ClientMetadata } from 'oidc-provider'
import { type OpStore, openSecrets, Provider } from '../../../../src/op.ts'
import { postgresStore } from '../../../../src/op-postgres.ts'
import { sqliteStore } from '../../../../src/op-sqlite.ts'
import { withLeases } from '../../../support/with-leases.ts'

/** What an OP process is started with, as JSON in its first argument. */
export interface OpProcessParts {
  readonly issuer: string
  readonly clients: readonly ClientMetadata[]
  readonly store: { readonly file: string } | { readonly connectionString: string }
  /** Milliseconds of a lease in place of the product's, so that a test need not wait for it. */
  readonly lease?: number
}

/** What the test asks of it. */
export type Order = { readonly end: string } | 'stop'

/** What it tells the test: it is there, an end was committed (or failed), an outcome came too late to be written. */
export type Notice =
  | 'ready'
  | { readonly ended: string }
  | { readonly failed: string; readonly message: string }
  | { readonly refusedOutcome: string }

// An OP as an operator runs it, the public Provider on a real store; what it is told comes over the channel to its parent.
const { issuer, clients, store, lease } = JSON.parse(process.argv[2] ?? '') as OpProcessParts
const opened = 'file' in store ? sqliteStore(store.file) : postgresStore({ connectionString: store.connectionString })
const tell = (notice: Notice): void => void process.send?.(notice)

const { jwks, cookieKeys } = await openSecrets(opened, issuer)
const provider = new Provider(
  issuer,
  {
    clients: [...clients],
    jwks: { keys: [...jwks.keys] },
    cookies: { keys: [...cookieKeys] },
    features: { devInteractions: { enabled: false } },
    findAccount: (_ctx, id) => ({ accountId: id, claims: async () => ({ sub: id }) }),
  },
  {
    store: observed(lease === undefined ? opened : withLeases(opened, lease)),
    egress: { allow: ['127.0.0.0/8'] },
    backchannel: { timeout: 60 }, // the test's RPs hold answers back, and time-outs are not what it is about
    log: () => {},
  },
)

process.on('message', (order: Order) => {
  if (order === 'stop') void stop()
  else void end(order.end)
})
process.on('disconnect', () => process.exit(1)) // the test is gone
await provider.ready()
flushCompileCache() // one that is killed leaves the next what it has compiled
tell('ready')

async function end(uid: string): Promise<void> {
  try {
    await provider.opSessions.end(uid)
    tell({ ended: uid })
  } catch (error) {
    tell({ failed: uid, message: String(error) })
  }
}

async function stop(): Promise<void> {
  await provider.close()
  await opened.close()
  process.exit(0)
}

/** The same store, with a word to the test when a fence refuses an outcome. */
function observed(real: OpStore): OpStore {
  return {
    ...real,
    forIssuer(...of) {
      const inner = real.forIssuer(...of)
      return {
        ...inner,
        async settle(delivery, attempt) {
          const settled = await inner.settle(delivery, attempt)
          if (!settled) tell({ refusedOutcome: delivery.id })
          return settled
        },
      }
    },
  }
}

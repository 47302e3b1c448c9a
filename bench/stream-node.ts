/* A node of an app whose tabs listen, in a process of its own. Started by streams.ts. */
import { createHash } from 'node:crypto'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createRelyingParty, type RpStore, type StoredRpSession } from 'lockstep/rp'
import { auth } from 'lockstep/rp/node'
import { postgresStore } from 'lockstep/rp/postgres'
import { redisStore } from 'lockstep/rp/redis'
import { CLIENT_ID, CLIENT_SECRET } from './op-for-rps.ts'
import { COOKIE_SUFFIX, cookieOf } from './stream-sessions.ts'

/** What streams.ts says when it starts one. */
export interface NodeSettings {
  readonly issuer: string
  readonly redis: number | null
  readonly postgres: string | null
}

/** `open` makes RP sessions from one number up to another; `spent` says what the process has used so far. */
export type NodeOrder = { readonly open: readonly [number, number] } | 'spent'

export interface Spent {
  /** Milliseconds of CPU. */
  readonly cpu: number
  /** How many times an RP session was read from the store. */
  readonly reads: number
}

const { issuer, redis, postgres } = JSON.parse(process.argv[2] ?? '{}') as NodeSettings
let reads = 0

const store = counting(
  postgres === null
    ? redisStore({ host: '127.0.0.1', port: redis ?? 6379 })
    : postgresStore({ connectionString: postgres }),
)
const serve = auth(
  createRelyingParty({
    issuer,
    clientId: CLIENT_ID,
    clientSecret: CLIENT_SECRET,
    appUrl: 'https://app.example',
    cookieSuffix: COOKIE_SUFFIX,
    store,
    log: (event) => event.event === 'internal_error' && console.error(event),
  }),
)

function counting(store: RpStore): RpStore {
  return {
    ...store,
    forClient(...args) {
      const inner = store.forClient(...args)
      return {
        ...inner,
        get(handle) {
          reads += 1
          return inner.get(handle)
        },
      }
    },
  }
}

async function open([from, to]: readonly [number, number]): Promise<void> {
  const rp = store.forClient({ issuer, clientId: CLIENT_ID }, { now: () => Date.now() })
  const requestedAt = await rp.now()
  const at = Math.floor(Date.now() / 1000)
  const life = { firstIat: at, createdAt: at, requestedAt, idleExpiresAt: at + 3600, expiresAt: at + 86_400 }
  for (let number = from; number < to; number++) {
    const handle = createHash('sha256').update(cookieOf(number)).digest('base64url')
    const names = { handle, publicId: `public ${number}`, sid: `sid ${number}`, sub: `sub of sid ${number}` }
    const session: StoredRpSession = { ...names, ...life, data: '{}', tokens: 'x'.repeat(500) }
    await rp.create(session)
  }
}

process.on('message', async (order: NodeOrder) => {
  if (order !== 'spent') await open(order.open)
  const { user, system } = process.cpuUsage()
  process.send?.({ answer: { cpu: (user + system) / 1000, reads } satisfies Spent })
})
process.on('disconnect', () => process.exit(0))
const server = createServer((req, res) => void serve(req, res))
await new Promise<void>((resolve) => server.listen({ host: '127.0.0.1', port: 0, backlog: 4096 }, resolve))
process.send?.({ answer: (server.address() as AddressInfo).port })

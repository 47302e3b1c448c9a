/* One process of an app whose access tokens are refreshed: it says `ready`, and on any message asks for one token many times. */
import { createRelyingParty, type RpStore } from '../../src/rp.ts'
import { postgresStore } from '../../src/rp-postgres.ts'
import { redisStore } from '../../src/rp-redis.ts'
import { sqliteStore } from '../../src/rp-sqlite.ts'
import { world } from '../../src/runtime/runtime.ts'

/** What it is told when it starts. */
export interface RefreshingProcess {
  readonly issuer: string
  readonly cookie: string
  readonly store: { readonly sqlite: string } | { readonly redis: number } | { readonly postgres: string }
  /** Seconds by which its clock is ahead. */
  readonly ahead: number
  readonly requests: number
}

function open(place: RefreshingProcess['store']): RpStore {
  if ('sqlite' in place) return sqliteStore(place.sqlite)
  if ('redis' in place) return redisStore({ host: '127.0.0.1', port: place.redis })
  return postgresStore({ connectionString: place.postgres })
}

const settings = JSON.parse(process.argv[2] ?? '') as RefreshingProcess
const store = open(settings.store)
const rp = createRelyingParty({
  issuer: settings.issuer,
  clientId: 'notes',
  clientSecret: 'the client secret',
  appUrl: 'https://notes.example',
  store,
  log: () => {},
  runtime: { ...world, now: () => world.now() + settings.ahead * 1000 },
})

process.once('message', async () => {
  const asked = Array.from({ length: settings.requests }, () => rp.accessToken(settings.cookie))
  process.send?.(await Promise.all(asked))
  await rp.close()
  await store.close()
  process.disconnect()
})
process.send?.('ready')

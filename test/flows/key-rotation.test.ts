import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import express from 'express'
import { afterEach, expect, it } from 'vitest'
import { openSecrets, rotateKeys } from '../../src/op.ts'
import { sqliteStore } from '../../src/op-sqlite.ts'
import { createRelyingParty, type RpLogEvent } from '../../src/rp.ts'
import { auth, requireLogin } from '../../src/rp-express.ts'
import { memoryStore } from '../../src/rp-memory.ts'
import { world } from '../../src/runtime/runtime.ts'
import { startTestOp, type TestOp } from '../support/test-op.ts'
import { createUserAgent } from '../support/user-agent.ts'

/* Both real sides: the OP signs with a key that the app cannot know yet, and comes again. */

const cleanup: (() => unknown)[] = []
afterEach(async () => {
  for (const step of cleanup.splice(0).reverse()) await step()
})

it('a logout that is signed by a key the app has not seen arrives once the app may ask for the keys again [A18] [T26] [BC §2.8]', async () => {
  const app = express()
  const server = createServer(app)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  cleanup.push(() => new Promise((resolve) => server.close(resolve) && server.closeAllConnections()))
  const { port } = server.address() as AddressInfo
  const url = `http://notes.localhost:${port}`
  const client = {
    client_id: 'notes',
    client_secret: 'the secret of notes, which is long enough',
    redirect_uris: [`${url}/auth/callback`],
    backchannel_logout_uri: `http://127.0.0.1:${port}/auth/backchannel-logout`,
    backchannel_logout_session_required: true,
  }
  const store = sqliteStore(':memory:')
  cleanup.push(() => store.close())
  let op: TestOp = await startTestOp({ clients: [client], store })
  cleanup.push(() => op.close())

  const log: RpLogEvent[] = []
  let ahead = 0
  const rp = createRelyingParty({
    issuer: op.issuer,
    clientId: client.client_id,
    clientSecret: client.client_secret,
    appUrl: url,
    store: memoryStore(),
    mapSession: ({ sub }) => ({ sub }),
    log: (event) => log.push(event),
    runtime: { ...world, now: () => world.now() + ahead },
  })
  cleanup.push(() => rp.close())
  app.use(auth(rp))
  app.get('/', requireLogin(rp), (req, res) => res.json(req.rpSession.data))
  const isSignedIn = async (browser: ReturnType<typeof createUserAgent>) => {
    const answer = await browser.open(`${url}/auth/session`)
    return JSON.parse(answer.body).state === 'alive'
  }
  const endOf = async (accountId: string) => {
    const [session] = (await op.provider.opSessions.list({ accountId })).sessions
    return (await op.provider.opSessions.end(session?.uid ?? '')) ?? ''
  }

  const first = createUserAgent()
  cleanup.push(() => first.close())
  await first.open(`${url}/`)
  await endOf('ada')
  await expect.poll(() => isSignedIn(first), { timeout: 10_000 }).toBe(false)
  const fetched = world.now()

  for (let rotation = 0; rotation < 2; rotation++) {
    await rotateKeys(store, op.issuer, { jwksCache: 0 })
    await openSecrets(store, op.issuer) // as a start of the OP does, which lists the next key
  }
  const { issuer, port: opPort } = op
  await op.close()
  op = await startTestOp({ clients: [client], store, port: opPort })
  expect(op.issuer).toBe(issuer)

  const second = createUserAgent()
  cleanup.push(() => second.close())
  await second.open(`${url}/`)
  expect(await isSignedIn(second)).toBe(true)
  ahead = fetched + 27_000 - world.now() // three seconds before the app asks for the keys again
  const id = await endOf('ada')
  const delivery = async () => (await op.store.forIssuer(issuer, world).getLogout(id))?.deliveries[0]
  await expect.poll(async () => (await delivery())?.attempts, { timeout: 10_000 }).toBe(1)
  expect(await isSignedIn(second)).toBe(true)
  expect((await delivery())?.lastOutcome).toMatchObject({ state: 'due', error: 'temporarily_unavailable' })
  expect(log).toContainEqual(expect.objectContaining({ event: 'logout_not_recorded' }))
  await expect
    .poll(async () => (await delivery())?.lastOutcome, { timeout: 15_000 })
    .toMatchObject({ state: 'delivered', status: 200, sessionsEnded: 1 })
  expect((await delivery())?.attempts).toBe(2)
  expect(await isSignedIn(second)).toBe(false)
}, 40_000)

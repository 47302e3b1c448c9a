import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import express from 'express'
import type { ClientMetadata } from 'oidc-provider'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createRelyingParty, type RelyingParty } from '../../src/rp.ts'
import { auth, requireLogin } from '../../src/rp-express.ts'
import { sqliteStore as rpSqliteStore } from '../../src/rp-sqlite.ts'
import { world } from '../../src/runtime/runtime.ts'
import { openTab, type Tab } from '../support/tab.ts'
import { startTestOp, type TestOp } from '../support/test-op.ts'
import { createUserAgent, type Page, type UserAgent } from '../support/user-agent.ts'

/* The story of docs/follow-a-logout.md with everything real but the browser: Ada, Notes, Mail and one OP. */

interface App {
  readonly url: string
  readonly client: ClientMetadata & { client_id: string; client_secret: string }
  start(issuer: string): void
  close(): Promise<void>
}

async function reserveApp(name: string): Promise<App> {
  const shell = express()
  const server = createServer(shell)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const url = `http://${name}.localhost:${port}`
  const client = {
    client_id: name,
    client_secret: `the secret of ${name}, which is long enough`,
    client_name: name,
    redirect_uris: [`${url}/auth/callback`],
    post_logout_redirect_uris: [`${url}/auth/logged-out`],
    backchannel_logout_uri: `http://127.0.0.1:${port}/auth/backchannel-logout`,
    backchannel_logout_session_required: true,
    lockstep_logout_details: true,
  }
  const store = rpSqliteStore(':memory:')
  let rp: RelyingParty<{ sid: string | undefined }> | undefined
  return {
    url,
    client,
    start(issuer) {
      rp = createRelyingParty({
        issuer,
        clientId: client.client_id,
        clientSecret: client.client_secret,
        appUrl: url,
        store,
        mapSession: (claims) => ({ sid: claims.sid }),
        log: () => {},
      })
      shell.use(auth(rp))
      shell.get('/', requireLogin(rp), (req, res) => res.json(req.rpSession.data))
      shell.get('/bye', (_req, res) => res.send('bye'))
    },
    async close() {
      await rp?.close()
      await new Promise<void>((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      })
      await store.close()
    },
  }
}

describe('a logout, from the click to the other tab', () => {
  let notes: App
  let mail: App
  let op: TestOp
  let ada: UserAgent
  let tab: Tab | undefined
  let sids: Record<string, string>

  beforeEach(async () => {
    notes = await reserveApp('notes')
    mail = await reserveApp('mail')
    op = await startTestOp({ clients: [notes.client, mail.client] })
    notes.start(op.issuer)
    mail.start(op.issuer)
    ada = createUserAgent()
    sids = { notes: sidOn(await ada.open(`${notes.url}/`)), mail: sidOn(await ada.open(`${mail.url}/`)) }
  })
  afterEach(async () => {
    await tab?.close()
    tab = undefined
    await ada.close()
    await Promise.all([notes.close(), mail.close()])
    await op.close()
  })

  const sidOn = (page: Page): string => (JSON.parse(page.body) as { sid: string }).sid
  const session = async (app: App): Promise<{ status: number; body: unknown }> => {
    const { status, body } = await ada.fetch(app.url, `${app.url}/auth/session`)
    return { status, body: JSON.parse(body) }
  }
  const opSession = async () => (await op.provider.opSessions.list({ accountId: 'ada' })).sessions[0]
  const browserState = () => ada.cookies(op.issuer).find(({ name }) => name.includes('op_state'))?.value
  const store = () => op.store.forIssuer(op.issuer, world)
  const signOutOf = async (app: App): Promise<Page> => {
    const asked = await ada.open(`${app.url}/auth/logout`)
    return ada.submit(asked)
  }

  it('stop 1: the OP remembers which RP got which sid [BC §2.3]', async () => {
    const known = await opSession()
    const recorded = Object.fromEntries((known?.clients ?? []).map(({ clientId, sid }) => [clientId, sid]))
    expect(recorded).toEqual(sids)
    expect(sids.notes).not.toBe(sids.mail)
  })

  it('stop 2: the browser-readable state is that of a login, and another one after the logout [SM-3.2-g]', async () => {
    const signedIn = browserState()
    expect(signedIn).toMatch(/^a\./)
    await signOutOf(notes)
    expect(browserState()).toMatch(/^n\./)
  })

  it('stop 3: a logout at one app ends the OP session and comes back to that app [RPI-2-p]', async () => {
    const back = await signOutOf(notes)
    expect(new URL(back.url).origin).toBe(notes.url)
    expect(await opSession()).toBeUndefined()
  })

  it('stop 4: the plan names each logged-in RP once, with its own sid [BCL-2.3-a]', async () => {
    const id = await op.provider.opSessions.end((await opSession())?.uid ?? '', { actor: 'root' })
    const fact = await store().getLogout(id ?? '')
    expect(fact?.logout).toMatchObject({ accountId: 'ada', cause: 'admin', actor: 'root' })
    expect(Object.fromEntries(fact?.deliveries.map(({ clientId, sid }) => [clientId, sid]) ?? [])).toEqual(sids)
  })

  it('stop 5: each RP is told and confirms that one RP session ended [BCL-2.8-a]', async () => {
    const told = { state: 'delivered', lastOutcome: { state: 'delivered', status: 200, sessionsEnded: 1 } }
    tab = openTab(ada, `${mail.url}/`)
    await tab.next('alive')
    const ended = tab.next('ended')
    const id = (await op.provider.opSessions.end((await opSession())?.uid ?? '')) ?? ''
    await ended
    await expect
      .poll(async () =>
        (await store().getLogout(id))?.deliveries.map(({ state, lastOutcome }) => ({ state, lastOutcome })),
      )
      .toEqual([told, told])
  })

  it('stop 6: the other app ends exactly its RP session and knows who and when [BCL-2.7-a]', async () => {
    const before = Date.now()
    expect((await session(mail)).status).toBe(200)
    await signOutOf(notes)
    const { status, body } = await session(mail)
    expect(status).toBe(401)
    expect(body).toMatchObject({ state: 'ended', ended: { cause: 'logout_token', by: 'notes' } })
    const { at_ms: at } = (body as { ended: { at_ms: number } }).ended
    expect(at).toBeGreaterThanOrEqual(before)
    expect(at).toBeLessThanOrEqual(Date.now())
  })

  it('stop 7: the open tab hears it by push and says ended once', async () => {
    tab = openTab(ada, `${mail.url}/`)
    const alive = await tab.next('alive')
    let times = 0
    tab.monitor.addEventListener('ended', () => times++)
    const ended = tab.next('ended')
    await op.provider.opSessions.end((await opSession())?.uid ?? '')
    expect(await ended).toMatchObject({
      session: alive.session.session,
      heardBy: 'push',
      ended: { cause: 'logout_token' },
    })
    await tab.monitor.check()
    expect(times).toBe(1)
  })

  it('all seven: Ada signs out of Notes, and the tab of Mail signs out by itself', async () => {
    tab = openTab(ada, `${mail.url}/`)
    await tab.next('alive')
    const ended = tab.next('ended')
    await signOutOf(notes)
    expect(await ended).toMatchObject({ heardBy: 'push', ended: { by: 'notes' } })
    expect((await session(notes)).status).toBe(401)
    expect((await ada.open(`${mail.url}/auth/login?prompt=none`)).status).not.toBe(500)
    expect(await opSession()).toBeUndefined()
  })

  it('nobody else is signed out by it', async () => {
    const grace = createUserAgent()
    try {
      await grace.open(`${mail.url}/auth/login?login_hint=grace`)
      await signOutOf(notes)
      expect((await grace.fetch(mail.url, `${mail.url}/auth/session`)).status).toBe(200)
      expect((await op.provider.opSessions.list({ accountId: 'grace' })).sessions).toHaveLength(1)
    } finally {
      await grace.close()
    }
  })
})

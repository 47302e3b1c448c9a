import express from 'express'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { createRelyingParty, type RelyingParty } from '../../src/rp.ts'
import { auth, requireLogin } from '../../src/rp-express.ts'
import { sqliteStore } from '../../src/rp-sqlite.ts'
import { listen, shut } from '../rp/support.ts'
import { startTestOp, type TestOp } from '../support/test-op.ts'
import { createUserAgent, type UserAgent } from '../support/user-agent.ts'

/* One app, one store, two OPs, at which the same client_id and the same sub are in use. */

const cleanup: (() => unknown)[] = []
afterEach(async () => {
  for (const step of cleanup.splice(0).reverse()) await step()
})

async function startApp() {
  const app = express()
  const { server, port } = await listen(app)
  cleanup.push(() => shut(server))
  const url = `http://desk.localhost:${port}`
  const store = sqliteStore(':memory:')
  cleanup.push(() => store.close())
  const sides: Record<'staff' | 'guests', { op: TestOp; rp: RelyingParty<{ sub: string }> }> = {
    staff: await startSide('staff'),
    guests: await startSide('guests'),
  }

  async function startSide(name: 'staff' | 'guests') {
    const client = {
      client_id: 'desk',
      client_secret: `the secret of desk at ${name}, long enough`,
      redirect_uris: [`${url}/auth/${name}/callback`],
      post_logout_redirect_uris: [`${url}/auth/${name}/logged-out`],
      backchannel_logout_uri: `http://127.0.0.1:${port}/auth/${name}/backchannel-logout`,
      backchannel_logout_session_required: true,
    }
    const op = await startTestOp({ clients: [client] })
    cleanup.push(() => op.close())
    const rp = createRelyingParty({
      issuer: op.issuer,
      clientId: client.client_id,
      clientSecret: client.client_secret,
      appUrl: url,
      prefix: `/auth/${name}`,
      store,
      mapSession: ({ sub }) => ({ sub }),
      log: () => {},
    })
    cleanup.push(() => rp.close())
    return { op, rp }
  }

  app.use(auth(sides.staff.rp), auth(sides.guests.rp))
  app.get('/staff', requireLogin(sides.staff.rp), (req, res) => res.json(req.rpSession.data))
  app.get('/guests', requireLogin(sides.guests.rp), (req, res) => res.json(req.rpSession.data))
  const agent = createUserAgent()
  cleanup.push(() => agent.close())
  return { url, ...sides, agent }
}

/** How both RP sessions of this browser are, by what each side's own route says. */
async function statesIn(agent: UserAgent, url: string) {
  const states = await Promise.all(['staff', 'guests'].map((name) => agent.fetch(url, `/auth/${name}/session`)))
  return states.map(({ body }) => JSON.parse(body).state as string)
}

async function logOut({ op }: { op: TestOp }): Promise<void> {
  const { sessions } = await op.provider.opSessions.list({ accountId: 'ada' })
  await op.provider.opSessions.end(sessions[0]?.uid ?? '')
}

describe('an app with two OPs', () => {
  it('keeps an RP session of each in one browser, under cookies of different names [T20, T21]', async () => {
    const { url, agent } = await startApp()
    expect((await agent.open(`${url}/staff`)).body).toBe('{"sub":"ada"}')
    expect(await statesIn(agent, url)).toEqual(['alive', 'none'])
    expect((await agent.open(`${url}/guests`)).body).toBe('{"sub":"ada"}')
    expect(await statesIn(agent, url)).toEqual(['alive', 'alive'])
    const names = agent.cookies(url).map(({ name }) => name)
    expect(new Set(names).size).toBe(names.length)
    expect(names).toHaveLength(2)
  })

  it('ends what the one OP names, tells the tab of that one, and leaves the other alone [T20, BC §2.7]', async () => {
    const { url, agent, staff } = await startApp()
    for (const page of ['staff', 'guests']) await agent.open(`${url}/${page}`)
    const stream = await agent.events(url, '/auth/staff/session/events')
    const other = await agent.events(url, '/auth/guests/session/events')
    for (const one of [stream, other]) expect(JSON.parse((await one.next())?.data ?? '').state).toBe('alive')
    await logOut(staff)
    expect(JSON.parse((await stream.next())?.data ?? '')).toMatchObject({
      state: 'ended',
      ended: { cause: 'logout_token' },
    })
    expect(await statesIn(agent, url)).toEqual(['ended', 'alive'])
    expect((await agent.fetch(url, '/guests')).status).toBe(200)
  })

  it('serves each side its own monitor [T20]', async () => {
    const { url, agent } = await startApp()
    for (const name of ['staff', 'guests']) {
      const script = await agent.fetch(url, `/auth/${name}/session-monitor.js`)
      expect([script.status, script.header('content-type')]).toEqual([200, 'text/javascript; charset=utf-8'])
    }
  })

  it('refuses in a frame what the other OP says, and ends nothing [T20]', async () => {
    const { url, agent, staff } = await startApp()
    for (const page of ['staff', 'guests']) await agent.open(`${url}/${page}`)
    const framed = `/auth/guests/frontchannel-logout?${new URLSearchParams({ iss: staff.op.issuer, sid: 'x' })}`
    expect((await agent.frame(staff.op.issuer, url + framed)).status).toBe(400)
    expect(await statesIn(agent, url)).toEqual(['alive', 'alive'])
  })

  it('refuses an Authentication Response that one OP sends to the callback of the other [T20]', async () => {
    const { url, agent, staff, guests } = await startApp()
    const login = await agent.fetch(url, '/auth/guests/login', { headers: { 'sec-fetch-dest': 'document' } })
    const state = new URL(login.header('location') ?? '').searchParams.get('state') ?? ''
    const mixedUp = new URLSearchParams({ code: 'a code', state, iss: staff.op.issuer })
    const page = await agent.open(`${url}/auth/guests/callback?${mixedUp}`)
    expect(page.status).toBe(400)
    expect(await statesIn(agent, url)).toEqual(['none', 'none'])
    expect(guests.op.failures).toEqual([])
  })

  it('signs out of one side, and the other stays signed in [RPI-2-b]', async () => {
    const { url, agent } = await startApp()
    for (const page of ['staff', 'guests']) await agent.open(`${url}/${page}`)
    await agent.submit(await agent.open(`${url}/auth/staff/logout`), {}, '/auth/staff/logout')
    await vi.waitFor(async () => expect((await statesIn(agent, url))[0]).not.toBe('alive'))
    expect((await statesIn(agent, url))[1]).toBe('alive')
  })
})

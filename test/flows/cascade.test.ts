import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import express from 'express'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { createRelyingParty, type RpLogEvent } from '../../src/rp.ts'
import { auth, requireLogin } from '../../src/rp-express.ts'
import { memoryStore } from '../../src/rp-memory.ts'
import { listen, shut } from '../rp/support.ts'
import { openTab } from '../support/tab.ts'
import { startTestOp, type TestOp } from '../support/test-op.ts'
import { createUserAgent } from '../support/user-agent.ts'

/* The user signs in at the top OP; examples/broker is an RP there and an OP for Mail; Mail knows the broker only. */

const cleanup: (() => unknown)[] = []
afterEach(async () => {
  for (const step of cleanup.splice(0).reverse()) await step()
})

const secret = (of: string) => `the secret of ${of}, which is long enough`

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  const { port } = server.address() as AddressInfo
  await new Promise((done) => server.close(done))
  return port
}

interface BrokerProcess {
  readonly url: string
  kill(): Promise<void>
  start(): Promise<void>
}

async function startWorld() {
  const port = await freePort()
  const url = `http://localhost:${port}`
  const top = await startTestOp({
    clients: [
      {
        client_id: 'broker',
        client_secret: secret('broker'),
        redirect_uris: [`${url}/upstream/callback`],
        post_logout_redirect_uris: [`${url}/upstream/logged-out`],
        backchannel_logout_uri: `http://127.0.0.1:${port}/upstream/backchannel-logout`,
        backchannel_logout_session_required: true,
      },
    ],
  })
  cleanup.push(() => top.close())
  const mail = await startMail(url)
  const broker = await startBroker({ url, port, top, mail })
  const newAgent = () => {
    const agent = createUserAgent()
    cleanup.push(() => agent.close())
    return agent
  }
  return { top, broker, mail, newAgent }
}

/** An app that signs its users in at the broker. */
async function startMail(issuer: string) {
  const app = express()
  const { server, port } = await listen(app)
  const url = `http://mail.localhost:${port}`
  const log: RpLogEvent[] = []
  const rp = createRelyingParty({
    issuer,
    clientId: 'mail',
    clientSecret: secret('mail'),
    appUrl: url,
    store: memoryStore(),
    mapSession: ({ sub }) => ({ sub }),
    log: (event) => log.push(event),
  })
  app.use(auth(rp))
  app.get('/', requireLogin(rp), (req, res) => res.json(req.rpSession.data))
  cleanup.push(async () => {
    await rp.close()
    await shut(server)
  })
  const client = {
    client_id: 'mail',
    client_secret: secret('mail'),
    redirect_uris: [`${url}/auth/callback`],
    post_logout_redirect_uris: [`${url}/auth/logged-out`],
    backchannel_logout_uri: `http://127.0.0.1:${port}/auth/backchannel-logout`,
    backchannel_logout_session_required: true,
  }
  return { url, client, log }
}

async function startBroker(parts: {
  readonly url: string
  readonly port: number
  readonly top: TestOp
  readonly mail: { readonly client: object }
}): Promise<BrokerProcess> {
  const data = mkdtempSync(join(tmpdir(), 'lockstep-broker-'))
  const env = {
    ...process.env,
    ISSUER: parts.top.issuer,
    CLIENT_ID: 'broker',
    CLIENT_SECRET: secret('broker'),
    APP_URL: parts.url,
    PORT: String(parts.port),
    DATA: data,
    CLIENTS: JSON.stringify([parts.mail.client]),
  }
  let child: ChildProcess | undefined
  const broker: BrokerProcess = {
    url: parts.url,
    async kill() {
      if (!child || child.exitCode !== null || child.signalCode !== null) return
      const ended = once(child, 'exit')
      child.kill('SIGKILL')
      await ended
    },
    async start() {
      const cwd = resolve(import.meta.dirname, '../../examples/broker')
      const stdio = ['ignore', 'pipe', 'ignore'] as const
      const started = spawn(process.execPath, ['-C', '@lockstep/source', 'main.ts'], { cwd, env, stdio: [...stdio] })
      child = started
      for await (const line of createInterface({ input: started.stdout })) if (line.includes('listening')) return
      throw new Error('the broker ended before it listened')
    },
  }
  cleanup.push(async () => {
    await broker.kill()
    rmSync(data, { recursive: true, force: true })
  })
  await broker.start()
  return broker
}

const uidsAt = async (op: TestOp, accountId = 'ada') =>
  (await op.provider.opSessions.list({ accountId })).sessions.map(({ uid }) => uid)

describe('an app two levels down', () => {
  it('is signed out, open tab included, when its user is logged out at the top, in that browser only [BCL-2.7-b]', async () => {
    const { top, mail, newAgent } = await startWorld()
    const [laptop, phone] = [newAgent(), newAgent()]
    expect((await laptop.open(`${mail.url}/`)).body).toBe('{"sub":"ada"}')
    const [uid = ''] = await uidsAt(top)
    expect((await phone.open(`${mail.url}/`)).body).toBe('{"sub":"ada"}')
    const tab = openTab(laptop, `${mail.url}/`)
    cleanup.push(() => tab.close())
    await tab.next('alive')
    const ended = tab.next('ended')
    await top.provider.opSessions.end(uid)
    expect(await ended).toMatchObject({ ended: { cause: 'logout_token' } })
    expect((await laptop.fetch(mail.url, '/auth/session')).status).toBe(401)
    expect((await phone.fetch(mail.url, '/auth/session')).status).toBe(200)
  })

  it('is signed out when a logout at the top ends all sessions of its user [BCL-2.7-b]', async () => {
    const { top, mail, newAgent } = await startWorld()
    const agents = [newAgent(), newAgent()]
    for (const agent of agents) await agent.open(`${mail.url}/`)
    await top.provider.opSessions.endAll({ accountId: 'ada' }, { cause: 'password_change' })
    for (const agent of agents) {
      await vi.waitFor(async () => expect((await agent.fetch(mail.url, '/auth/session')).status).toBe(401), 20_000)
    }
  })

  it('is signed out although the broker was killed while the logout came, and again later [T7]', async () => {
    const { top, mail, broker, newAgent } = await startWorld()
    const ada = newAgent()
    await ada.open(`${mail.url}/`)
    const [uid = ''] = await uidsAt(top)
    await broker.kill()
    await top.provider.opSessions.end(uid)
    expect((await ada.fetch(mail.url, '/auth/session')).status).toBe(200)
    await broker.start()
    await vi.waitFor(async () => expect((await ada.fetch(mail.url, '/auth/session')).status).toBe(401), 30_000)
  })

  it('asks again after its own sign-out: the broker signs nobody in by surprise, and offers to sign out upstream', async () => {
    const { top, mail, broker, newAgent } = await startWorld()
    const ada = newAgent()
    await ada.open(`${mail.url}/`)
    const away = await ada.submit(await ada.open(`${mail.url}/auth/logout`))
    expect(away.url).toContain(`${mail.url}/auth/logged-out`)
    expect(await uidsAt(top)).toHaveLength(1) // the user is still signed in upstream
    const asked = await ada.open(`${mail.url}/auth/login`)
    expect(asked.trail.some((url) => url.startsWith(`${top.issuer}/auth`) && url.includes('prompt=login'))).toBe(true)
    const offer = await ada.open(`${broker.url}/session/end`)
    const signedOut = await ada.submit(offer, { answer: 'yes' })
    expect(signedOut.body).toContain('/upstream/logout')
    await ada.submit(signedOut, {}, '/upstream/logout')
    await vi.waitFor(async () => expect(await uidsAt(top)).toHaveLength(0))
  })
})

describe('two OPs that are upstream of each other', () => {
  it('end both sessions by one logout, each once, and then are still [BCL-2.7-b]', async () => {
    const calls: string[] = []
    const [a, b] = await Promise.all([startRing('a', calls), startRing('b', calls)])
    const [opA, opB] = await Promise.all([a.startOp(b.client), b.startOp(a.client)])
    const ada = createUserAgent()
    cleanup.push(() => ada.close())
    await a.signIn(ada, opB)
    await b.signIn(ada, opA)
    const [uidA = ''] = await uidsAt(opA)
    const [uidB = ''] = await uidsAt(opB)
    a.endOnLogout(() => opA.provider.opSessions.end(uidA, { cause: 'upstream_logout' }))
    b.endOnLogout(() => opB.provider.opSessions.end(uidB, { cause: 'upstream_logout' }))
    await opA.provider.opSessions.end(uidA)
    await vi.waitFor(() => expect(calls).toHaveLength(2), 20_000)
    expect(await uidsAt(opA)).toEqual([])
    expect(await uidsAt(opB)).toEqual([])
    // b heard of a's logout and ended its own session; a heard of that, found nothing alive, and told nobody.
    expect(calls).toEqual(['b ended a session', 'a had none left'])
  })
})

/** One of them: an RP at the other, with an OP beside it. */
async function startRing(name: string, calls: string[]) {
  const app = express()
  const { server, port } = await listen(app)
  const url = `http://${name}.localhost:${port}`
  let end: () => Promise<string | undefined> = async () => undefined
  cleanup.push(() => shut(server))
  const client = {
    client_id: name,
    client_secret: secret(name),
    redirect_uris: [`${url}/upstream/callback`],
    backchannel_logout_uri: `http://127.0.0.1:${port}/upstream/backchannel-logout`,
    backchannel_logout_session_required: true,
  }
  return {
    client,
    async startOp(other: { client_id: string }) {
      const op = await startTestOp({ clients: [other] })
      cleanup.push(() => op.close())
      return op
    },
    async signIn(agent: ReturnType<typeof createUserAgent>, { issuer }: TestOp) {
      const rp = createRelyingParty({
        issuer,
        clientId: name,
        clientSecret: secret(name),
        appUrl: url,
        prefix: '/upstream',
        store: memoryStore(),
        log: () => {},
        async endDownstream() {
          calls.push(`${name} ${(await end()) === undefined ? 'had none left' : 'ended a session'}`)
        },
      })
      cleanup.push(() => rp.close())
      app.use(auth(rp))
      app.get('/', requireLogin(rp), (_req, res) => res.send('signed in'))
      expect((await agent.open(`${url}/`)).body).toBe('signed in')
    },
    endOnLogout(how: () => Promise<string | undefined>) {
      end = how
    },
  }
}

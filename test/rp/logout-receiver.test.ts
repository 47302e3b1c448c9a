import express from 'express'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { LockstepError } from '../../src/protocol/errors.ts'
import { BACKCHANNEL_LOGOUT_EVENT } from '../../src/protocol/logout-token.ts'
import type { SessionDocument } from '../../src/protocol/session-document.ts'
import {
  createLogoutReceiver,
  type KeptClaims,
  type LogoutReceiver,
  type LogoutReceiverOptions,
  type RpLogEvent,
  type RpStore,
} from '../../src/rp.ts'
import { auth as expressAuth } from '../../src/rp-express.ts'
import { auth as fetchAuth } from '../../src/rp-fetch.ts'
import { memoryStore } from '../../src/rp-memory.ts'
import { auth as nodeAuth } from '../../src/rp-node.ts'
import { START } from '../../src/testing/rp-store-bench.ts'
import { type FakeOp, startFakeOp } from './fake-op.ts'
import { ask, plainRequest, postForm, textOf } from './plain-request.ts'
import { listen, shut } from './support.ts'
import { createVirtualTime, type VirtualTime } from './virtual-time.ts'

let op: FakeOp
beforeAll(async () => {
  op = await startFakeOp()
})
afterAll(() => op.close())

const receivers: LogoutReceiver[] = []
afterEach(async () => {
  for (const one of receivers.splice(0)) await one.close()
})

interface Setting {
  readonly logouts: LogoutReceiver
  readonly time: VirtualTime
  readonly log: RpLogEvent[]
}

function start(options: Partial<LogoutReceiverOptions> = {}): Setting {
  const time = createVirtualTime(START * 1000)
  const log: RpLogEvent[] = []
  const logouts = createLogoutReceiver({
    issuer: op.issuer,
    clientId: 'notes',
    appUrl: 'https://notes.example',
    store: memoryStore(),
    runtime: time,
    log: (event) => log.push(event),
    ...options,
  })
  receivers.push(logouts)
  return { logouts, time, log }
}

let count = 0

/** Has the OP say that somebody signed out. */
async function logOut({ logouts, time }: Setting, claims: Record<string, unknown>) {
  const now = Math.floor(time.now() / 1000)
  const logout_token = await op.mint({
    iss: op.issuer,
    aud: 'notes',
    iat: now,
    exp: now + 120,
    jti: `jti ${++count}`,
    events: { [BACKCHANNEL_LOGOUT_EVENT]: {} },
    ...claims,
  })
  return postForm(logouts, '/auth/backchannel-logout', { logout_token })
}

const ada: KeptClaims = { sub: 'ada', sid: 'laptop', iat: START - 60 }

/** An app's own cookie; sealed in a real app. */
const cookieOf = (claims: KeptClaims) => ({
  cookie: `app=${Buffer.from(JSON.stringify(claims)).toString('base64url')}`,
})
const withCookie = {
  readSession: (request: { header(name: string): string | undefined }) => {
    const value = /app=([\w-]+)/.exec(request.header('cookie') ?? '')?.[1]
    return value === undefined ? undefined : (JSON.parse(Buffer.from(value, 'base64url').toString()) as KeptClaims)
  },
  clearSession: () => ['app=; Path=/; Secure; SameSite=None; Max-Age=0'],
}

describe('an app whose sessions are cookies of its own', () => {
  it('hears that a session was logged out by its sid, and no other [BC §2.7]', async () => {
    const setting = start()
    const { logouts, log } = setting
    expect(await logouts.isLoggedOut(ada)).toBe(false)
    const answer = await logOut(setting, { sid: 'laptop', sub: 'ada' })
    expect([answer.status, answer.headers['cache-control']]).toEqual([200, 'no-store'])
    expect(answer.headers).not.toHaveProperty('logout-sessions-ended') // nobody can know how many there were
    expect(await logouts.isLoggedOut(ada)).toBe(true)
    expect(await logouts.isLoggedOut({ ...ada, sid: 'phone' })).toBe(false)
    expect(await logouts.isLoggedOut({ sub: 'grace', iat: START })).toBe(false)
    expect(log).toEqual([{ event: 'logout_received', ended: 0, by: 'sid' }])
  })

  it('hears that all sessions of an End-User were logged out, but not those that began later [BC §2.4, T3]', async () => {
    const setting = start()
    const { logouts, time } = setting
    await logOut(setting, { sub: 'ada' })
    await time.pass(10)
    await logOut(setting, { sub: 'ada', iat: START - 30, toe: START - 90 }) // an older one, told late
    expect(await logouts.isLoggedOut(ada)).toBe(true)
    expect(await logouts.isLoggedOut({ sub: 'ada', iat: START })).toBe(true)
    expect(await logouts.isLoggedOut({ ...ada, iat: START + 1 })).toBe(false)
  })

  it('knows of a logout that came before the callback had finished [T3]', async () => {
    const setting = start()
    await logOut(setting, { sid: 'new' })
    await setting.time.pass(5)
    expect(await setting.logouts.isLoggedOut({ sub: 'ada', sid: 'new', iat: START + 3 })).toBe(true)
  })

  it('leaves a login alone that got a used sid again, where the OP does so [T3]', async () => {
    const setting = start({ allow: { sidReused: true } })
    await logOut(setting, { sid: 'laptop' })
    expect(await setting.logouts.isLoggedOut(ada)).toBe(true)
    expect(await setting.logouts.isLoggedOut({ ...ada, iat: START + 1 })).toBe(false)
  })

  it('counts a session as logged out that is older than anything it remembers', async () => {
    const setting = start({ sessionLifetime: 3_600 })
    const { logouts, time } = setting
    await logOut(setting, { sid: 'laptop' })
    await time.pass(3_539)
    expect(await logouts.isLoggedOut({ ...ada, sid: 'phone' })).toBe(false)
    expect(await logouts.isLoggedOut({ ...ada, iat: START + 3_000 })).toBe(true)
    await time.pass(1)
    expect(await logouts.isLoggedOut({ ...ada, sid: 'phone' })).toBe(true)
    await time.pass(3_599)
    expect(await logouts.isLoggedOut({ ...ada, iat: START + 3_600 })).toBe(true) // a code redeemed an hour later
  })

  it('refuses a bad Logout Token and a replay, and remembers neither [BC §2.6]', async () => {
    const setting = start()
    expect((await logOut(setting, { sid: 'laptop', aud: 'mail' })).status).toBe(400)
    expect((await logOut(setting, { sid: 'laptop', nonce: 'n' })).status).toBe(400)
    expect(await setting.logouts.isLoggedOut(ada)).toBe(false)
    expect((await logOut(setting, { sid: 'x', jti: 'once' })).status).toBe(200)
    expect((await logOut(setting, { sid: 'laptop', jti: 'once' })).status).toBe(400)
    expect(await setting.logouts.isLoggedOut(ada)).toBe(false)
  })

  it('answers 400 temporarily_unavailable while the store is away, and says nothing of anybody [BC §2.8]', async () => {
    const memory = memoryStore()
    const broken = async () => {
      throw new Error('the disk is gone')
    }
    const store = {
      ...memory,
      forClient: (...args: Parameters<typeof memory.forClient>) => ({
        ...memory.forClient(...args),
        endBy: broken,
        loggedOutAt: broken,
      }),
    }
    const setting = start({ store })
    const answer = await logOut(setting, { sid: 'laptop' })
    expect([answer.status, answer.headers['retry-after']]).toEqual([400, '5'])
    expect(JSON.parse(textOf(answer))).toMatchObject({ error: 'temporarily_unavailable' })
    await expect(setting.logouts.isLoggedOut(ada)).rejects.toMatchObject({ code: 'store_failed', status: 503 })
    expect(setting.log.at(-1)).toEqual({ event: 'internal_error', route: 'isLoggedOut', message: 'the disk is gone' })
  })

  it('lets nobody in and signs nobody out while the store is away: 503, and tabs are told that nobody knows [T17]', async () => {
    const memory = memoryStore()
    let isAway = false
    const store: RpStore = {
      ...memory,
      forClient(...args) {
        const inner = memory.forClient(...args)
        const loggedOutAt: typeof inner.loggedOutAt = async (...asked) => {
          if (isAway) throw new LockstepError('store_failed', 'Redis at 10.0.0.7 cannot be reached')
          return inner.loggedOutAt(...asked)
        }
        return { ...inner, loggedOutAt }
      },
    }
    const { logouts } = start({ ...withCookie, store })
    const app = express().set('env', 'production').use(expressAuth(logouts))
    app.get('/me', async (_req, res) => void res.send((await logouts.isLoggedOut(ada)) ? 'out' : 'in'))
    const { server, port } = await listen(app)
    const me = () => fetch(`http://127.0.0.1:${port}/me`)
    expect(await (await me()).text()).toBe('in')
    isAway = true
    const refused = await me()
    expect([refused.status, await refused.text()]).toEqual([503, expect.not.stringMatching(/10\.0\.0\.7|>in</)])
    const session = await ask(logouts, 'GET', '/auth/session', cookieOf(ada))
    expect([session.status, session.headers['retry-after']]).toEqual([503, '5'])
    expect(JSON.parse(textOf(session))).toMatchObject({ error: 'temporarily_unavailable' })
    expect(textOf(session)).not.toContain('10.0.0.7')
    const tab = await openTab(logouts, cookieOf(ada))
    expect(await tab.next()).toBeUndefined()
    isAway = false
    expect(await (await me()).text()).toBe('in')
    await shut(server)
  })

  it('says what is wrong with claims that are not of an ID Token of this OP [T20]', async () => {
    const { logouts } = start()
    await expect(logouts.isLoggedOut({ ...ada, iss: 'https://other.example' })).rejects.toThrow('another issuer')
    await expect(logouts.isLoggedOut({ ...ada, sub: '' })).rejects.toThrow('sub')
    await expect(logouts.isLoggedOut({ ...ada, iat: Number.NaN })).rejects.toThrow('iat')
  })

  it('lets nobody in by an iat that is still to come, as one in milliseconds is: every logout would be older [T20]', async () => {
    const setting = start()
    const { logouts } = setting
    await logOut(setting, { sub: 'ada' })
    for (const iat of [START * 1000, START + 61]) {
      await expect(logouts.isLoggedOut({ ...ada, iat })).rejects.toThrow(
        new TypeError('the iat lies in the future: it must be that of the ID Token, in seconds'),
      )
    }
    expect(await logouts.isLoggedOut({ ...ada, iat: START + 60 })).toBe(false) // the OP's clock may be ahead
  })

  it('says which option is wrong', () => {
    expect(() => start({ sessionLifetime: 0.5 })).toThrow(
      new TypeError('sessionLifetime must be a whole number of seconds, at least 1'),
    )
    expect(() => start({ clearSession: () => [] })).toThrow('clearSession needs readSession')
    expect(() => start({ mapSession: 1 } as object)).toThrow('mapSession is not an option of createLogoutReceiver')
  })

  it('leaves every route to the app that it does not serve', async () => {
    const { logouts } = start()
    for (const route of ['login', 'callback', 'logout', 'session', 'session/events', 'frontchannel-logout', 'x']) {
      expect(await logouts.respond(plainRequest('GET', `/auth/${route}`))).toBeUndefined()
    }
    expect((await ask(logouts, 'GET', '/auth/backchannel-logout')).status).toBe(405)
    expect(await logouts.respond(plainRequest('GET', '/me'))).toBeUndefined()
  })
})

describe('its front channel', () => {
  const framed = { 'sec-fetch-dest': 'iframe' }
  const url = (sid: string) => `/auth/frontchannel-logout?${new URLSearchParams({ iss: op.issuer, sid })}`

  it('clears the cookie that came along, if it is of the sid that is named [FCL-2-d]', async () => {
    const { logouts } = start(withCookie)
    const answer = await ask(logouts, 'GET', url('laptop'), { ...framed, ...cookieOf(ada) })
    expect(answer.status).toBe(200)
    expect(answer.cookies).toEqual(['app=; Path=/; Secure; SameSite=None; Max-Age=0'])
    const other = await ask(logouts, 'GET', url('phone'), { ...framed, ...cookieOf(ada) })
    expect([other.status, other.cookies]).toEqual([200, []])
  })

  it('remembers nothing, since anybody could ask: a session elsewhere lives on [T4]', async () => {
    const { logouts } = start(withCookie)
    const answer = await ask(logouts, 'GET', url('laptop'), framed)
    expect([answer.status, answer.cookies]).toEqual([200, []])
    await ask(logouts, 'GET', url('laptop'), { ...framed, ...cookieOf(ada) })
    expect(await logouts.isLoggedOut(ada)).toBe(false)
  })

  it('refuses what no OP sends, and every place but a frame [T4]', async () => {
    const { logouts } = start(withCookie)
    for (const [to, headers] of [
      [url('laptop'), { 'sec-fetch-dest': 'document' }],
      ['/auth/frontchannel-logout?sid=laptop', framed],
      ['/auth/frontchannel-logout?iss=https://evil.example&sid=laptop', framed],
    ] as const) {
      const answer = await ask(logouts, 'GET', to, { ...headers, ...cookieOf(ada) })
      expect([answer.status, answer.cookies]).toEqual([400, []])
    }
  })
})

describe('a session that the app cannot read', () => {
  it.each([
    ['a reader that throws', () => Promise.reject(new Error('the seal of this cookie is broken'))],
    ['claims that are no login', () => ({ sub: '', iat: START })],
  ] as const)('is said to be so, with a code, and why is in the log: %s', async (_name, readSession) => {
    const { logouts, log } = start({ readSession, clearSession: () => ['app=; Max-Age=0'] })
    for (const route of ['session', 'session/events']) {
      const answer = await ask(logouts, 'GET', `/auth/${route}`, { 'sec-fetch-site': 'same-origin' })
      expect(answer.status).toBe(500)
      expect(JSON.parse(textOf(answer))).toMatchObject({ error: 'session_unreadable' })
    }
    const frame = `/auth/frontchannel-logout?${new URLSearchParams({ iss: op.issuer, sid: 'laptop' })}`
    const answer = await ask(logouts, 'GET', frame, { 'sec-fetch-dest': 'iframe' })
    expect([answer.status, answer.cookies]).toEqual([500, []])
    expect(answer.headers['content-type']).toMatch(/^text\/html/)
    expect(textOf(answer)).toContain('Code: session_unreadable')
    expect(textOf(answer)).not.toMatch(/seal|claims must/)
    const messages = log.map((event) => ('message' in event ? event.message : ''))
    expect(messages).toEqual(Array.from({ length: 3 }, () => expect.stringMatching(/^readSession: .*(seal|sub)/)))
  })
})

describe('its tabs', () => {
  it('learn at once that the session was logged out, and those of others do not [T17]', async () => {
    const setting = start(withCookie)
    const { logouts } = setting
    const tab = await openTab(logouts, cookieOf(ada))
    const other = await openTab(logouts, cookieOf({ ...ada, sid: 'phone' }))
    const alive = { state: 'alive', sub: 'ada', client_id: 'notes', expires_at: START - 60 + 604_800 }
    expect(await tab.next()).toMatchObject(alive)
    expect(await other.next()).toMatchObject(alive)
    const heard = tab.next()
    await logOut(setting, { sid: 'laptop' })
    expect(await heard).toMatchObject({ state: 'ended', ended: { cause: 'logout_token', at: START } })
    expect(await tab.next()).toBeUndefined()
    const all = other.next()
    await logOut(setting, { sub: 'ada' })
    expect(await all).toMatchObject({ state: 'ended' })
  })

  it('are told the same by GET session, and other sites nothing [T17]', async () => {
    const setting = start(withCookie)
    const { logouts } = setting
    expect((await ask(logouts, 'GET', '/auth/session', cookieOf(ada))).status).toBe(200)
    expect((await ask(logouts, 'GET', '/auth/session')).status).toBe(401)
    expect((await ask(logouts, 'GET', '/auth/session/events')).status).toBe(401)
    const foreign = { ...cookieOf(ada), 'sec-fetch-site': 'cross-site' }
    expect((await ask(logouts, 'GET', '/auth/session', foreign)).status).toBe(403)
    expect((await ask(logouts, 'GET', '/auth/session/events', foreign)).status).toBe(403)
    await logOut(setting, { sid: 'laptop' })
    const ended = await ask(logouts, 'GET', '/auth/session', cookieOf(ada))
    expect([ended.status, JSON.parse(textOf(ended)).state]).toEqual([401, 'ended'])
  })

  it('are told when the session is too old, by themselves', async () => {
    const { logouts, time } = start({ ...withCookie, sessionLifetime: 70 })
    const tab = await openTab(logouts, cookieOf(ada))
    expect(await tab.next()).toMatchObject({ state: 'alive' })
    const heard = tab.next()
    await time.pass(10)
    expect(await heard).toMatchObject({ state: 'ended', ended: { cause: 'expired', at: START + 10 } })
  })

  it('leave no subscription behind when the store fails between the two that a stream needs', async () => {
    const memory = memoryStore()
    const open = new Set<object>()
    const store: RpStore = {
      ...memory,
      forClient(...args) {
        const inner = memory.forClient(...args)
        const subscribe: typeof inner.subscribe = async (to, onHint) => {
          if (typeof to === 'object' && 'sid' in to) throw new LockstepError('store_failed', 'the line is dead')
          const unsubscribe = await inner.subscribe(to, onHint)
          open.add(to as object)
          return () => {
            open.delete(to as object)
            unsubscribe()
          }
        }
        return { ...inner, subscribe }
      },
    }
    const { logouts, log } = start({ ...withCookie, store })
    const tab = await openTab(logouts, cookieOf(ada))
    expect(await tab.next()).toBeUndefined()
    expect(log).toEqual([{ event: 'internal_error', route: 'session/events', message: 'the line is dead' }])
    expect(open.size).toBe(0)
  })

  it('get the session monitor ready-made', async () => {
    const { logouts } = start(withCookie)
    const answer = await ask(logouts, 'GET', '/auth/session-monitor.js')
    expect([answer.status, answer.headers['content-type']]).toEqual([200, 'text/javascript; charset=utf-8'])
  })
})

describe('an adapter', () => {
  it('mounts it as it mounts a relying party, and takes nobody for signed in', async () => {
    const { logouts } = start()
    const app = express()
    app.use(expressAuth(logouts))
    app.get('/', (req, res) => res.json({ rpSession: req.rpSession ?? null }))
    const viaNode = nodeAuth(logouts)
    const servers = [
      await listen(app),
      await listen((req, res) => void viaNode(req, res).then((done) => done || res.end('{"rpSession":null}'))),
    ]
    for (const { server, port } of servers) {
      expect(await (await fetch(`http://127.0.0.1:${port}/`)).json()).toEqual({ rpSession: null })
      expect((await fetch(`http://127.0.0.1:${port}/auth/backchannel-logout`)).status).toBe(405)
      await shut(server)
    }
    const viaFetch = fetchAuth(logouts)
    expect(await viaFetch(new Request('https://notes.example/'))).toBeUndefined()
    expect((await viaFetch(new Request('https://notes.example/auth/backchannel-logout')))?.status).toBe(405)
  })
})

async function openTab(logouts: LogoutReceiver, headers: Record<string, string>) {
  const answer = await ask(logouts, 'GET', '/auth/session/events', headers)
  if (typeof answer.body === 'string' || answer.body instanceof Uint8Array) throw new Error(`${answer.status}`)
  const pieces = answer.body[Symbol.asyncIterator]()
  return {
    async next(): Promise<SessionDocument | undefined> {
      for (;;) {
        const { value } = await pieces.next()
        if (value === undefined) return undefined
        if (!String(value).startsWith(':'))
          return JSON.parse(String(value).split('\n')[1]?.slice('data: '.length) ?? '')
      }
    },
  }
}

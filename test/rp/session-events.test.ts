import { afterEach, describe, expect, it, vi } from 'vitest'
import type { SessionDocument } from '../../src/protocol/session-document.ts'
import { namesOf } from '../../src/rp/session-id.ts'
import { createRelyingParty, type RelyingParty, type RpLogEvent, type RpSessionStore } from '../../src/rp.ts'
import { memoryStore } from '../../src/rp-memory.ts'
import { ending, opened, START, someSession } from '../../src/testing/rp-store-bench.ts'
import { ask, plainRequest, textOf } from './plain-request.ts'
import { createVirtualTime, type VirtualTime } from './virtual-time.ts'

const id = 'x'.repeat(43)
const names = namesOf(id)

interface Setting {
  readonly rp: RelyingParty
  readonly sessions: RpSessionStore
  readonly time: VirtualTime
  readonly log: RpLogEvent[]
}

let setting: Setting | undefined

/** An app whose browser has an RP session, under a clock that stands until it is moved. */
async function start(change: (store: RpSessionStore) => Partial<RpSessionStore> = () => ({})): Promise<Setting> {
  const time = createVirtualTime(START * 1000)
  const memory = memoryStore()
  const identity = { issuer: 'http://127.0.0.1:9', clientId: 'notes' } // nobody is there
  const sessions = memory.forClient(identity, time)
  const log: RpLogEvent[] = []
  const rp = createRelyingParty({
    ...identity,
    clientSecret: 's',
    appUrl: 'https://notes.example',
    cookieSuffix: 'notes',
    store: { ...memory, forClient: () => ({ ...sessions, ...change(sessions) }) },
    runtime: time,
    log: (event) => log.push(event),
  })
  await opened(sessions, someSession({ ...names, sessionState: 'hash.salt unknown' }))
  setting = { rp, sessions, time, log }
  return setting
}

afterEach(async () => {
  await setting?.rp.close()
  setting = undefined
})

const headers = { cookie: `__Host-lockstep-notes=${id}` }

/** A tab's stream: what it hears, piece by piece. */
async function listen(rp: RelyingParty, signal?: AbortSignal) {
  const answer = await ask(rp, 'GET', '/auth/session/events', headers, '', signal)
  if (typeof answer.body === 'string' || answer.body instanceof Uint8Array) throw new Error(`${answer.status}`)
  const pieces = answer.body[Symbol.asyncIterator]()
  return { answer, next: async () => parse((await pieces.next()).value) }
}

/** A session document, `beat` for a comment, `undefined` for the end. */
function parse(piece: string | undefined): SessionDocument | 'beat' | undefined {
  if (piece === undefined) return undefined
  if (piece.startsWith(':')) return 'beat'
  const [event, data] = piece.trimEnd().split('\n')
  expect(event).toBe('event: session')
  return JSON.parse(data?.slice('data: '.length) ?? '')
}

const alive = {
  state: 'alive',
  session: names.publicId,
  sub: 'ada',
  client_id: 'notes',
  expires_at: START + 3600,
  session_state: 'hash.salt',
  silent_check: 'unknown',
}
const ended = { state: 'ended', session: names.publicId, ended: ending }

describe('GET /auth/session', () => {
  it('says that the RP session is alive, and until when', async () => {
    const { rp } = await start()
    const answer = await ask(rp, 'GET', '/auth/session', headers)
    expect(answer.status).toBe(200)
    expect(answer.headers).toMatchObject({ 'cache-control': 'no-store', 'cross-origin-resource-policy': 'same-origin' })
    expect(JSON.parse(textOf(answer))).toEqual(alive)
  })

  it('says 401 and how it ended, or 401 and that there is none', async () => {
    const { rp, sessions } = await start()
    await sessions.delete(names.handle, ending)
    const answer = await ask(rp, 'GET', '/auth/session', headers)
    expect(answer.status).toBe(401)
    expect(JSON.parse(textOf(answer))).toEqual(ended)
    expect(answer.cookies).toEqual([])
    for (const cookie of ['', '__Host-lockstep-notes=short', `__Host-lockstep-notes=${'y'.repeat(43)}`]) {
      const none = await ask(rp, 'GET', '/auth/session', { cookie })
      expect(none.status).toBe(401)
      expect(JSON.parse(textOf(none))).toEqual({ state: 'none' })
    }
  })

  it('does not believe a cookie that comes twice [T21] [A63]', async () => {
    const { rp } = await start()
    const cookie = `${headers.cookie}; __Host-lockstep-notes=${'y'.repeat(43)}`
    expect((await ask(rp, 'GET', '/auth/session', { cookie })).status).toBe(401)
  })

  it('does not show anything of the RP session that would be a credential [T6]', async () => {
    const { rp } = await start()
    const text = textOf(await ask(rp, 'GET', '/auth/session', headers))
    expect(text).not.toContain(id)
    expect(text).not.toContain(names.handle)
  })

  it.each(['/auth/session', '/auth/session/events'])('%s answers other sites 403 [T17]', async (url) => {
    const { rp } = await start()
    for (const site of ['cross-site', 'same-site']) {
      expect((await ask(rp, 'GET', url, { ...headers, 'sec-fetch-site': site })).status).toBe(403)
    }
  })
})

describe('the idle lifetime', () => {
  it('is extended by a request of the app and never by one of ours [T11]', async () => {
    const { rp, sessions, time } = await start()
    const stream = await listen(rp)
    await stream.next()
    await time.pass(1800)
    await ask(rp, 'GET', '/auth/session', headers)
    await ask(rp, 'GET', '/auth/silent-check', headers)
    const before = await sessions.get(names.handle)
    expect(before?.state === 'alive' && before.session.idleExpiresAt).toBe(START + 3600)
    await rp.current(plainRequest('GET', '/', headers))
    const after = await sessions.get(names.handle)
    expect(after?.state === 'alive' && after.session.idleExpiresAt).toBe(START + 1800 + 86_400)
  })

  it('does not bring back an RP session that a logout ended while the request was on its way', async () => {
    const { rp, sessions, time } = await start((inner) => ({
      updateIfExists: async (handle, patch) => {
        await inner.delete(handle, ending)
        return inner.updateIfExists(handle, patch)
      },
    }))
    await time.pass(1800)
    const { current, cookies } = await rp.current(
      plainRequest('GET', '/', { ...headers, 'sec-fetch-dest': 'document' }),
    )
    expect(current).toEqual({ state: 'ended', end: ending })
    expect(cookies).toEqual([expect.stringMatching(`^__Host-lockstep-notes-ended=${names.publicId};`)])
    expect((await sessions.get(names.handle))?.state).toBe('ended')
  })

  it('ends at the absolute lifetime however much the app is used', async () => {
    const { rp, time } = await start()
    for (let hour = 0; hour < 23; hour++) {
      await time.pass(3599)
      await rp.current(plainRequest('GET', '/', headers))
    }
    await time.pass(2 * 3600)
    expect((await rp.current(plainRequest('GET', '/', headers))).current).toEqual({ state: 'none' })
  })

  it('leaves the dead cookie to scripts’ requests, so that tabs can still hear how it ended', async () => {
    const { rp, sessions } = await start()
    await sessions.delete(names.handle, ending)
    const script = await rp.current(plainRequest('GET', '/api', { ...headers, 'sec-fetch-dest': 'empty' }))
    expect(script).toEqual({ current: { state: 'ended', end: ending }, cookies: [] })
  })
})

describe('the stream of a tab', () => {
  it('says at once how things are, is never cached, stored up or shared [T17]', async () => {
    const { rp } = await start()
    const { answer, next } = await listen(rp)
    expect(answer.headers).toMatchObject({
      'content-type': 'text/event-stream',
      'cache-control': 'no-store, no-transform',
      'cross-origin-resource-policy': 'same-origin',
      'x-accel-buffering': 'no',
    })
    expect(await next()).toEqual(alive)
  })

  it('says how the RP session ended as soon as it has, and ends [A65]', async () => {
    const { rp, sessions } = await start()
    const { next } = await listen(rp)
    await next()
    const heard = next()
    await sessions.delete(names.handle, ending)
    expect(await heard).toEqual(ended)
    expect(await next()).toBeUndefined()
  })

  it('says so at once to a tab that comes back after the logout [A65]', async () => {
    const { rp, sessions } = await start()
    await sessions.delete(names.handle, ending)
    const { next } = await listen(rp)
    expect(await next()).toEqual(ended)
    expect(await next()).toBeUndefined()
  })

  it('says nothing to a tab of another RP session of the same End-User [A65]', async () => {
    const { rp, sessions, time } = await start()
    const { next } = await listen(rp)
    await next()
    const [other = ''] = await opened(sessions, someSession({ sub: 'ada' }))
    const heard = next()
    await sessions.delete(other, ending)
    await time.pass(15)
    expect(await heard).toBe('beat')
  })

  it('is not kept for a browser without an RP session', async () => {
    const { rp } = await start()
    const answer = await ask(rp, 'GET', '/auth/session/events')
    expect(answer.status).toBe(401)
    expect(JSON.parse(textOf(answer))).toEqual({ state: 'none' })
  })

  it('misses nothing that happens between its subscription and its first read [T17]', async () => {
    const { rp } = await start((inner) => ({
      subscribe: async (to, onHint) => {
        const stop = await inner.subscribe(to, onHint)
        await inner.delete(names.handle, ending)
        return stop
      },
    }))
    const { next } = await listen(rp)
    expect(await next()).toEqual(ended)
  })

  it('reads the store again every 30 s, so that a lost hint costs no more than that [T17]', async () => {
    const { rp, sessions, time } = await start(() => ({ subscribe: async () => () => {} }))
    const { next } = await listen(rp)
    await next()
    await sessions.delete(names.handle, ending)
    const first = next()
    await time.pass(15)
    expect(await first).toBe('beat')
    const second = next()
    await time.pass(15)
    expect(await second).toBe('beat')
    expect(await next()).toEqual(ended)
  })

  it('says every four minutes how it is, though nothing has changed: then no tab has to ask', async () => {
    const { rp, time } = await start()
    const { next } = await listen(rp)
    expect(await next()).toEqual(alive)
    for (let beat = 1; beat <= 16; beat++) {
      const heard = next()
      await time.pass(15)
      expect(await heard).toBe('beat')
    }
    expect(await next()).toEqual(alive)
  })

  it('takes a hint for no more than that: a false one is not repeated to the tab [T18]', async () => {
    const hints: (() => void)[] = []
    const { rp, time } = await start(() => ({
      subscribe: async (_handle, onHint) => {
        hints.push(onHint)
        return () => {}
      },
    }))
    const { next } = await listen(rp)
    await next()
    const heard = next()
    hints[0]?.()
    await time.pass(15)
    expect(await heard).toBe('beat')
  })

  it('says a new session_state, what is known of prompt=none and a later expiry', async () => {
    const { rp, sessions } = await start()
    const { next } = await listen(rp)
    await next()
    const heard = next()
    await sessions.updateIfExists(names.handle, { sessionState: 'new.salt works', idleExpiresAt: START + 5000 })
    expect(await heard).toEqual({
      ...alive,
      session_state: 'new.salt',
      silent_check: 'works',
      expires_at: START + 5000,
    })
  })

  it('ends with the RP session’s own expiry [T17]', async () => {
    const { rp, time } = await start()
    const { next } = await listen(rp)
    await next()
    let last: SessionDocument | 'beat' | undefined = 'beat'
    const heard = (async () => {
      while (last === 'beat' || last?.state === 'alive') last = await next()
    })()
    await time.pass(3600)
    await heard
    expect(last).toEqual({ ...ended, ended: { cause: 'expired', at: START + 3600 } })
    expect(await next()).toBeUndefined()
  })

  it('is one of at most eight per RP session; the oldest is closed [T17]', async () => {
    const { rp } = await start()
    const streams = []
    for (let i = 0; i < 9; i++) {
      const stream = await listen(rp)
      expect(await stream.next()).toEqual(alive)
      streams.push(stream)
    }
    expect(await streams[0]?.next()).toBeUndefined()
  })

  it('reads the store in its turn, at most 256 at a time, when all must; who is gone by then does not [T17]', async () => {
    const hints: (() => void)[] = []
    const reads: (() => void)[] = []
    let isHeld = false
    const { rp, sessions } = await start((inner) => ({
      get: async (handle) => {
        if (isHeld) await new Promise<void>((resolve) => reads.push(resolve))
        return inner.get(handle)
      },
      subscribe: async (_to, onHint) => {
        hints.push(onHint)
        return () => {}
      },
    }))
    const tabs = await Promise.all(
      Array.from({ length: 264 }, async (_, i) => {
        const cookie = `__Host-lockstep-notes=${String(i).padStart(43, 'z')}`
        await opened(sessions, someSession({ ...namesOf(String(i).padStart(43, 'z')), sub: `u${i}` }))
        const gone = new AbortController()
        const answer = await ask(rp, 'GET', '/auth/session/events', { cookie }, '', gone.signal)
        const pieces = (answer.body as AsyncIterable<string>)[Symbol.asyncIterator]()
        await pieces.next()
        return { gone, next: pieces.next(), leave: () => gone.abort() }
      }),
    )
    isHeld = true
    for (const hint of hints) hint() // as when the store was out of reach
    await vi.waitFor(() => expect(reads).toHaveLength(256))
    tabs[260]?.leave()
    for (const read of reads.splice(0, 5)) read()
    await vi.waitFor(() => expect(reads).toHaveLength(256))
    for (let left = 263 - 5; left > 0; left--) {
      await vi.waitFor(() => expect(reads.length).toBe(Math.min(256, left)))
      reads.shift()?.()
    }
    expect(await tabs[260]?.next).toMatchObject({ done: true })
    for (const tab of tabs) tab.leave()
    await Promise.all(tabs.map(({ next }) => next))
    expect(reads).toEqual([])
  })

  it('waits for no read that hangs: it breaks off, and the streams behind it have their turn [T17]', async () => {
    const hints: (() => void)[] = []
    let hanging = 0
    let isHeld = false
    const { rp, sessions, time, log } = await start((inner) => ({
      get: async (handle) => {
        if (isHeld && hanging < 256) {
          hanging += 1
          await new Promise(() => {}) // a step of the store that never ends
        }
        return inner.get(handle)
      },
      subscribe: async (_to, onHint) => {
        hints.push(onHint)
        return () => {}
      },
    }))
    const tabs = await Promise.all(
      Array.from({ length: 258 }, async (_, i) => {
        const cookie = String(i).padStart(43, 'z')
        await opened(sessions, someSession({ ...namesOf(cookie), sub: `u${i}` }))
        const answer = await ask(rp, 'GET', '/auth/session/events', { cookie: `__Host-lockstep-notes=${cookie}` })
        const pieces = (answer.body as AsyncIterable<string>)[Symbol.asyncIterator]()
        await pieces.next()
        return { handle: namesOf(cookie).handle, next: pieces.next() }
      }),
    )
    isHeld = true
    for (const hint of hints) hint()
    await vi.waitFor(() => expect(hanging).toBe(256))
    for (const { handle } of tabs) await sessions.delete(handle, ending)
    await time.pass(10)
    const heard = await Promise.all(tabs.slice(256).map(({ next }) => next))
    for (const { value } of heard) expect(parse(value)).toMatchObject({ state: 'ended' })
    for (const { next } of tabs.slice(0, 256)) expect(await next).toMatchObject({ done: true })
    const message = 'the store has not answered for 10 s'
    expect(log).toContainEqual({ event: 'internal_error', route: 'session/events', message })
  })

  it('leaves nothing behind when the tab goes', async () => {
    let subscribed = 0
    const { rp, time } = await start((inner) => ({
      subscribe: async (handle, onHint) => {
        const stop = await inner.subscribe(handle, onHint)
        subscribed++
        return () => {
          subscribed--
          stop()
        }
      },
    }))
    const gone = new AbortController()
    await vi.waitFor(() => expect(time.waiting()).toBe(1)) // the app looks each minute for what is owed
    const { next } = await listen(rp, gone.signal)
    await next()
    const last = next()
    expect(subscribed).toBe(1)
    gone.abort()
    expect(await last).toBeUndefined()
    expect(subscribed).toBe(0)
    expect(time.waiting()).toBe(1)
  })

  it('ends, so that the server can close, when the relying party closes', async () => {
    const { rp, time } = await start()
    const { next } = await listen(rp)
    await next()
    const last = next()
    await rp.close()
    expect(await last).toBeUndefined()
    expect(time.waiting()).toBe(0)
    const { next: late } = await listen(rp)
    expect(await late()).toBeUndefined()
  })

  it('breaks off, and says so in the log, when the store fails: not knowing is not a logout', async () => {
    let reads = 0
    const { rp, sessions, log } = await start((inner) => ({
      get: async (handle) => {
        if (++reads > 2) throw new Error('no store')
        return inner.get(handle)
      },
    }))
    const { next } = await listen(rp)
    expect(await next()).toEqual(alive)
    const last = next()
    await sessions.delete(names.handle, ending)
    expect(await last).toBeUndefined()
    await vi.waitFor(() =>
      expect(log).toContainEqual({ event: 'internal_error', route: 'session/events', message: 'no store' }),
    )
    expect((await ask(rp, 'GET', '/auth/session', headers)).status).toBe(500)
  })
})

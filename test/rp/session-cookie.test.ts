import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { namesOf } from '../../src/rp/session-id.ts'
import { createRelyingParty, type RelyingParty } from '../../src/rp.ts'
import { memoryStore } from '../../src/rp-memory.ts'
import { opened, someSession } from '../../src/testing/rp-store-bench.ts'
import { ask, plainRequest } from './plain-request.ts'

const name = '__Host-lockstep-notes'
const id = 'x'.repeat(43)
const now = Math.floor(Date.now() / 1000)
let rp: RelyingParty

beforeEach(async () => {
  const store = memoryStore()
  const identity = { issuer: 'http://127.0.0.1:9', clientId: 'notes' }
  rp = createRelyingParty({
    ...identity,
    clientSecret: 's',
    appUrl: 'https://notes.example',
    cookieSuffix: 'notes',
    store,
    log: () => {},
  })
  const life = { firstIat: now, createdAt: now, idleExpiresAt: now + 600, expiresAt: now + 600 }
  await opened(store.forClient(identity, Date), someSession({ ...namesOf(id), ...life }))
})
afterEach(() => rp.close())

describe('a session cookie', () => {
  it.each([
    ['cut short', id.slice(1)],
    ['longer by one', `${id}x`],
    ['with another letter in it', `${id.slice(1)}y`],
    ['in quotes', `"${id}"`],
    ['percent-encoded', id.replace('x', '%78')],
    ['of 100 kB', 'x'.repeat(100_000)],
    ['with control characters', `${id}\u0000`],
    ['empty', ''],
    ['that looks like a sealed one of another library', 'eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0..a.b.c'],
  ])('%s is nobody’s, on every route, and breaks none [A63]', async (_what, value) => {
    const headers = { cookie: `${name}=${value}`, 'sec-fetch-dest': 'document' }
    expect((await rp.current(plainRequest('GET', '/', headers))).current).toEqual({ state: 'none' })
    for (const route of ['session', 'session/events']) {
      expect((await ask(rp, 'GET', `/auth/${route}`, headers)).status).toBe(401)
    }
    const headersOfTheApp = { cookie: `${name}=${id}` }
    expect((await rp.current(plainRequest('GET', '/', headersOfTheApp))).current.state).toBe('alive')
  })

  it('in pieces, as libraries write that keep a whole session in cookies, is nobody’s [A63]', async () => {
    const cookie = [1, 0, 2].map((n) => `${name}.${n}=${id.slice(n * 20, n * 20 + 20)}`).join('; ')
    expect((await rp.current(plainRequest('GET', '/', { cookie }))).current).toEqual({ state: 'none' })
  })
})

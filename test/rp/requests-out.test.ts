import type { Server } from 'node:http'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { BACKCHANNEL_LOGOUT_EVENT } from '../../src/protocol/logout-token.ts'
import { createRelyingParty, type RelyingParty, type RpSessionStore } from '../../src/rp.ts'
import { memoryStore } from '../../src/rp-memory.ts'
import { world } from '../../src/runtime/runtime.ts'
import { opened, START, someSession, statesOf } from '../../src/testing/rp-store-bench.ts'
import { type FakeOp, startFakeOp } from './fake-op.ts'
import { ask, postForm, textOf } from './plain-request.ts'
import { listen, shut } from './support.ts'

/* An RP asks its OP, at the URLs that this OP names in its own metadata, and nobody else. */

let op: FakeOp
let rp: RelyingParty
let sessions: RpSessionStore
let elsewhere: { server: Server; url: string; asked: string[] }

beforeEach(async () => {
  op = await startFakeOp()
  const asked: string[] = []
  const { server, port } = await listen((req, res) => {
    asked.push(req.url ?? '')
    res.end(JSON.stringify({ keys: op.keys.published }))
  })
  elsewhere = { server, asked, url: `http://127.0.0.1:${port}` }
  const store = memoryStore()
  const runtime = { ...world, now: () => START * 1000 }
  sessions = store.forClient({ issuer: op.issuer, clientId: 'notes' }, runtime)
  const app = { clientId: 'notes', clientSecret: 'the client secret', appUrl: 'https://notes.example' }
  rp = createRelyingParty({ issuer: op.issuer, ...app, store, runtime, log: () => {} })
})

afterEach(async () => {
  await rp.close()
  await op.close()
  await shut(elsewhere.server)
})

let count = 0

async function logOut(claims: Record<string, unknown>, header: Record<string, unknown> = {}) {
  const events = { [BACKCHANNEL_LOGOUT_EVENT]: {} }
  const about = { iss: op.issuer, aud: 'notes', iat: START, exp: START + 120, jti: `j${++count}`, events }
  return postForm(rp, '/auth/backchannel-logout', { logout_token: await op.mint({ ...about, ...claims }, header) })
}

describe('a request for keys', () => {
  it.each(['jku', 'x5u'])('goes nowhere that the %s of a token says [T25]', async (name) => {
    const [handle = ''] = await opened(sessions, someSession({ sid: 's' }))
    await logOut({ sid: 's' }, { [name]: `${elsewhere.url}/keys`, kid: 'not of the OP' })
    expect(elsewhere.asked).toEqual([])
    expect(await statesOf(sessions, handle)).toEqual(['alive'])
  })

  it.each([
    '/.well-known/openid-configuration',
    '/jwks',
  ])('is not led elsewhere by a redirect of %s [T25]', async (path) => {
    const [handle = ''] = await opened(sessions, someSession({ sid: 's' }))
    op.answers.set(path, { status: 302, body: {}, headers: { location: `${elsewhere.url}${path}` } })
    const answer = await logOut({ sid: 's' })
    expect(JSON.parse(textOf(answer))).toMatchObject({ error: 'temporarily_unavailable' })
    expect(elsewhere.asked).toEqual([])
    expect(await statesOf(sessions, handle)).toEqual(['alive'])
  })
})

it('a code is sent nowhere that a redirect of the Token Endpoint says [T25]', async () => {
  const begun = await ask(rp, 'GET', '/auth/login')
  const state = new URL(begun.headers.location ?? '').searchParams.get('state') ?? ''
  op.answers.set('/token', { status: 307, body: {}, headers: { location: `${elsewhere.url}/token` } })
  const cookie = begun.cookies.map((line) => line.split(';')[0]).join('; ')
  const query = new URLSearchParams({ code: 'c', state, iss: op.issuer })
  expect((await ask(rp, 'GET', `/auth/callback?${query}`, { cookie })).status).toBe(502)
  expect(elsewhere.asked).toEqual([])
})

describe('a logout that is only a test', () => {
  it('with a random sid and no sub ends nobody, and the OP is told that it was none [T28]', async () => {
    const handles = await opened(sessions, someSession({ sid: 's' }), someSession({ sid: 't', sub: 'grace' }))
    const answer = await logOut({ sid: 'V1StGXR8_Z5jdHi6B-myT' })
    expect([answer.status, answer.headers['logout-sessions-ended']]).toEqual([200, '0'])
    expect(await statesOf(sessions, ...handles)).toEqual(['alive', 'alive'])
  })

  it('ends none; nor does a logout that is told again because its first answer was lost [T28]', async () => {
    await opened(sessions, someSession({ sid: 's' }))
    const counts = [await logOut({ sid: 's' }), await logOut({ sid: 's' })].map(
      ({ headers }) => headers['logout-sessions-ended'],
    )
    expect(counts).toEqual(['1', '0'])
  })
})

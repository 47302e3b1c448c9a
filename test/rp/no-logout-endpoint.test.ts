import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { namesOf } from '../../src/rp/session-id.ts'
import { createRelyingParty, type RelyingParty, type RpSessionStore } from '../../src/rp.ts'
import { memoryStore } from '../../src/rp-memory.ts'
import { world } from '../../src/runtime/runtime.ts'
import { opened, START, someSession } from '../../src/testing/rp-store-bench.ts'
import { type FakeOp, startFakeOp } from './fake-op.ts'
import { ask, postForm, textOf } from './plain-request.ts'

const METADATA = '/.well-known/openid-configuration'
const id = 'x'.repeat(43)
const headers = { cookie: `__Host-lockstep-notes=${id}`, 'sec-fetch-site': 'same-origin' }

let op: FakeOp
let rp: RelyingParty
let sessions: RpSessionStore

beforeEach(async () => {
  op = await startFakeOp()
  const { end_session_endpoint: _none, ...metadata } = await (await fetch(op.issuer + METADATA)).json()
  op.answers.set(METADATA, { status: 200, body: metadata })
  const store = memoryStore()
  const runtime = { ...world, now: () => START * 1000 }
  sessions = store.forClient({ issuer: op.issuer, clientId: 'notes' }, runtime)
  rp = createRelyingParty({
    issuer: op.issuer,
    clientId: 'notes',
    clientSecret: 'the client secret',
    appUrl: 'https://notes.example',
    cookieSuffix: 'notes',
    store,
    runtime,
    log: () => {},
  })
  await opened(sessions, someSession(namesOf(id)))
})

afterEach(async () => {
  await rp.close()
  await op.close()
})

describe('signing out of an app whose OP has no Logout Endpoint', () => {
  it('works here, says what it could not do, and offers no second try that could not either', async () => {
    const page = await postForm(rp, '/auth/logout', { from: 'everywhere' }, headers)
    expect(page.status).toBe(200) // nothing is broken, and nothing will be better later
    expect(textOf(page)).toContain('You are signed out of this app')
    expect(textOf(page)).toContain('you may still be signed in there')
    expect(textOf(page)).not.toContain('Try to sign out there')
    expect(await sessions.listBySub('ada')).toEqual([])
  })

  it('is not undone without a word: the next login asks for the password once more', async () => {
    const page = await postForm(rp, '/auth/logout', {}, headers)
    const cookie = page.cookies.map((line) => line.split(';')[0]).join('; ')
    const login = await ask(rp, 'GET', '/auth/login', { cookie })
    expect(new URL(login.headers.location ?? '').searchParams.get('prompt')).toBe('login')
  })
})

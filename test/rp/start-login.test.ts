import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createRelyingParty, type RelyingParty } from '../../src/rp.ts'
import { memoryStore } from '../../src/rp-memory.ts'
import { type FakeOp, startFakeOp } from './fake-op.ts'
import { ask, postForm, textOf } from './plain-request.ts'

let op: FakeOp
let rp: RelyingParty

beforeEach(async () => {
  op = await startFakeOp()
  rp = createRelyingParty({
    issuer: op.issuer,
    clientId: 'notes',
    clientSecret: 'the client secret',
    appUrl: 'https://notes.example',
    store: memoryStore(),
    log: () => {},
  })
})

afterEach(async () => {
  await rp.close()
  await op.close()
})

async function listPrompts(values: unknown): Promise<void> {
  const path = '/.well-known/openid-configuration'
  const body: unknown = await (await fetch(op.issuer + path)).json()
  op.answers.set(path, { status: 200, body: { ...(body as object), prompt_values_supported: values } })
}

/** The authorization request that a path leads to. */
async function requestAt(url: string): Promise<URLSearchParams> {
  const answer = await ask(rp, 'GET', url)
  expect(answer.status).toBe(303)
  expect(answer.headers.location).toContain(`${op.issuer}/authorize?`)
  return new URL(answer.headers.location ?? '').searchParams
}

describe('register', () => {
  it('starts at account creation when the OP lists it, with no other prompt value [PC-4-a, PC-4-b]', async () => {
    await listPrompts(['none', 'login', 'consent', 'create'])
    const sent = await requestAt('/auth/register?login_hint=ada@example.com&prompt=login')
    expect(sent.getAll('prompt')).toEqual(['create'])
    expect(sent.get('login_hint')).toBe('ada@example.com')
  })

  it.each([
    ['lists other values only', ['none', 'login']],
    ['lists nothing', undefined],
    ['says something else', 'create'],
  ])('says so when the OP %s, at login too [PC-4.2-b]', async (_name, values) => {
    await listPrompts(values)
    for (const url of ['/auth/register', '/auth/login?prompt=create']) {
      const answer = await ask(rp, 'GET', url)
      expect(answer.status).toBe(404)
      expect(textOf(answer)).toContain('registration_unsupported')
      expect(answer.cookies).toEqual([])
    }
  })

  it('signs nobody in whose account was made without an ID Token coming back [PC-4.1-b]', async () => {
    await listPrompts(['create'])
    const begun = await ask(rp, 'GET', '/auth/register')
    const state = new URL(begun.headers.location ?? '').searchParams.get('state') ?? ''
    op.answers.set('/token', { status: 200, body: { access_token: 'a', token_type: 'Bearer' } })
    const query = new URLSearchParams({ code: 'c', state, iss: op.issuer })
    const cookie = begun.cookies.map((line) => line.split(';')[0]).join('; ')
    const answer = await ask(rp, 'GET', `/auth/callback?${query}`, { cookie })
    expect(answer.status).toBe(502)
    expect(answer.cookies.filter((line) => !line.includes('Max-Age=0'))).toEqual([])
  })

  it('is not begun by an image [T29]', async () => {
    expect((await ask(rp, 'GET', '/auth/register', { 'sec-fetch-dest': 'image' })).status).toBe(403)
  })
})

describe('login', () => {
  it('hands several prompts on, and refuses a list with one that is none, or with create beside others [PC-4-b]', async () => {
    expect((await requestAt('/auth/login?prompt=login%20consent')).get('prompt')).toBe('login consent')
    await listPrompts(['create'])
    for (const bad of ['none', 'login none', 'login create', 'login  consent', 'Login', '', ' ', 'login login']) {
      const answer = await ask(rp, 'GET', `/auth/login?${new URLSearchParams({ prompt: bad })}`)
      expect([bad, answer.status]).toEqual([bad, 400])
    }
  })

  it('hands max_age on, and refuses what is no number of seconds [Core §3.1.2.1]', async () => {
    expect((await requestAt('/auth/login?max_age=0')).get('max_age')).toBe('0')
    for (const bad of ['-1', '1e3', 'x', '']) {
      expect((await ask(rp, 'GET', `/auth/login?max_age=${bad}`)).status).toBe(400)
    }
  })
})

it('no more of a login_hint is handed on than an e-mail address may be long', async () => {
  const hint = 'a'.repeat(5_000)
  const wanted = new URLSearchParams({ iss: op.issuer, login_hint: hint })
  for (const url of [`/auth/login?login_hint=${hint}`, `/auth/initiate-login?${wanted}`]) {
    expect((await requestAt(url)).get('login_hint')).toBe('a'.repeat(320))
  }
})

describe('a login that another party wants', () => {
  const home = 'https://notes.example/'

  /** Where the login would come back to: what the page for a failed one offers. */
  async function returnOf(url: string): Promise<string> {
    const begun = await ask(rp, 'GET', url)
    const state = new URL(begun.headers.location ?? '').searchParams.get('state') ?? ''
    const cookie = begun.cookies.map((line) => line.split(';')[0]).join('; ')
    const query = new URLSearchParams({ error: 'access_denied', state, iss: op.issuer })
    const page = textOf(await ask(rp, 'GET', `/auth/callback?${query}`, { cookie }))
    const path = /return_to=([^"]*)"/.exec(page)?.[1] ?? ''
    return new URL(decodeURIComponent(path), home).href
  }

  it('goes to our OP with its hint, by GET and by POST [Core §4]', async () => {
    const sent = await requestAt(`/auth/initiate-login?${new URLSearchParams({ iss: op.issuer, login_hint: 'ada' })}`)
    expect(sent.get('login_hint')).toBe('ada')
    const answer = await postForm(rp, '/auth/initiate-login', { iss: op.issuer, login_hint: 'ada' })
    expect(new URL(answer.headers.location ?? '').searchParams.get('login_hint')).toBe('ada')
  })

  it.each([
    ['another', 'iss=https://evil.example'],
    ['no', 'login_hint=ada'],
    ['a second', 'iss=https://evil.example&iss=ISSUER'],
    ['one more', 'iss=ISSUER&iss=https://evil.example'],
  ])('with %s issuer goes nowhere [E46]', async (_name, query) => {
    const answer = await ask(rp, 'GET', `/auth/initiate-login?${query.replace('ISSUER', op.issuer)}`)
    expect(answer.status).toBe(400)
    expect(answer.headers.location).toBeUndefined()
    expect(textOf(answer)).not.toContain('evil.example')
  })

  it.each([
    ['https://notes.example/note/7?x=1#top', 'https://notes.example/note/7?x=1#top'],
    ['https://evil.example/note/7', home],
    ['https://notes.example.evil.example/', home],
    ['https://notes.example//evil.example', home],
    ['http://notes.example/note/7', home],
    ['https://notes.example/auth/logout', home],
    ['javascript:alert(1)', home],
    ['/note/7', home],
  ])('comes back to %s as %s: never to another site [E46]', async (target, expected) => {
    const query = new URLSearchParams({ iss: op.issuer, target_link_uri: target })
    expect(await returnOf(`/auth/initiate-login?${query}`)).toBe(expected)
  })

  it('is not begun by an image or a prefetch [T29]', async () => {
    const url = `/auth/initiate-login?${new URLSearchParams({ iss: op.issuer })}`
    expect((await ask(rp, 'GET', url, { 'sec-fetch-dest': 'image' })).status).toBe(403)
    const prefetch = { 'sec-fetch-dest': 'document', 'sec-purpose': 'prefetch;prerender' }
    expect((await ask(rp, 'GET', url, prefetch)).status).toBe(403)
  })
})

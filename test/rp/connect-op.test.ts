import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { createLogoutReceiver, createRelyingParty, type RelyingParty, type RpLogEvent } from '../../src/rp.ts'
import { memoryStore } from '../../src/rp-memory.ts'
import { world } from '../../src/runtime/runtime.ts'
import { type FakeOp, startFakeOp } from './fake-op.ts'
import { ask, postForm, textOf } from './plain-request.ts'

const METADATA = '/.well-known/openid-configuration'

let op: FakeOp
let rp: RelyingParty
let later = 0
const log: RpLogEvent[] = []

beforeEach(async () => {
  op = await startFakeOp()
  later = 0
  log.length = 0
  rp = createRelyingParty({
    issuer: op.issuer,
    clientId: 'notes',
    clientSecret: 'the client secret',
    appUrl: 'https://notes.example',
    store: memoryStore(),
    log: (event) => log.push(event),
    runtime: { ...world, now: () => world.now() + later * 1000 },
  })
})

afterEach(async () => {
  await rp.close()
  await op.close()
})

it('the OP is asked again before a login when half a minute has passed, once for all who wait', async () => {
  const login = async () => (await ask(rp, 'GET', '/auth/login')).status
  expect([await login(), await login()]).toEqual([303, 303])
  expect(op.asked.get(METADATA)).toBe(1)
  later = 31
  expect(await Promise.all([login(), login(), login()])).toEqual([303, 303, 303])
  expect(op.asked.get(METADATA)).toBe(2)
})

it('an OP that is slow, but not too slow for the first login, is not too slow for a later one', async () => {
  await ask(rp, 'GET', '/auth/login')
  const metadata = await (await fetch(op.issuer + METADATA)).json()
  op.answers.set(METADATA, { status: 200, body: metadata, after: 2_500 })
  later = 31
  expect((await ask(rp, 'GET', '/auth/login')).status).toBe(303)
  expect(log).toEqual([])
})

it('an OP that says nothing any more counts as gone after five seconds', async () => {
  await ask(rp, 'GET', '/auth/login')
  op.answers.set(METADATA, 'say nothing')
  later = 31
  const answer = await ask(rp, 'GET', '/auth/login')
  expect(answer.status).toBe(503)
  expect(textOf(answer)).toContain(op.issuer + METADATA)
})

it('a Logout Token is judged with what is known of the OP, whether its metadata can be had now or not', async () => {
  await ask(rp, 'GET', '/auth/login')
  op.answers.set(METADATA, 'hang up')
  later = 31
  expect((await ask(rp, 'GET', '/auth/login')).status).toBe(503)
  const iat = Math.floor(Date.now() / 1000) + later
  const events = { 'http://schemas.openid.net/event/backchannel-logout': {} }
  const token = await op.mint({ iss: op.issuer, aud: 'notes', iat, exp: iat + 60, jti: 'j', sid: 's', events })
  expect((await postForm(rp, '/auth/backchannel-logout', { logout_token: token })).status).toBe(200)
})

it('its keys are looked for where it says now that they are', async () => {
  const token = async (jti: string) => {
    const iat = Math.floor(Date.now() / 1000) + later
    const events = { 'http://schemas.openid.net/event/backchannel-logout': {} }
    return op.mint({ iss: op.issuer, aud: 'notes', iat, exp: iat + 60, jti, sid: 's', events })
  }
  expect((await postForm(rp, '/auth/backchannel-logout', { logout_token: await token('1') })).status).toBe(200)
  const metadata = (await (await fetch(op.issuer + METADATA)).json()) as Record<string, unknown>
  op.answers.set(METADATA, { status: 200, body: { ...metadata, jwks_uri: `${op.issuer}/new-keys` } })
  await op.rotate()
  op.answers.set('/new-keys', { status: 200, body: { keys: op.keys.published } })
  op.answers.set('/jwks', { status: 404, body: {} })
  later = 31
  await ask(rp, 'GET', '/auth/login')
  expect((await postForm(rp, '/auth/backchannel-logout', { logout_token: await token('2') })).status).toBe(200)
})

it('an app at which nobody signs in also learns in time that its keys have moved', async () => {
  const post = async (jti: string) => {
    const iat = Math.floor(Date.now() / 1000) + later
    const events = { 'http://schemas.openid.net/event/backchannel-logout': {} }
    const logout_token = await op.mint({ iss: op.issuer, aud: 'notes', iat, exp: iat + 60, jti, sid: 's', events })
    return (await postForm(rp, '/auth/backchannel-logout', { logout_token })).status
  }
  expect(await post('1')).toBe(200)
  const metadata = (await (await fetch(op.issuer + METADATA)).json()) as Record<string, unknown>
  await op.rotate()
  op.answers.set('/new-keys', { status: 200, body: { keys: op.keys.published } })
  op.answers.set('/jwks', { status: 404, body: {} })
  const before = op.asked.get(METADATA) ?? 0
  op.answers.set(METADATA, 'hang up')
  later = 601
  expect([await post('2'), await post('3')]).toEqual([400, 400])
  await vi.waitFor(() => expect(log).toContainEqual(expect.objectContaining({ event: 'op_unreachable' })))
  await post('4')
  // An OP that is down is knocked at every half minute, not by each token.
  expect(op.asked.get(METADATA)).toBe(before + 1)
  op.answers.set(METADATA, { status: 200, body: { ...metadata, jwks_uri: `${op.issuer}/new-keys` } })
  later += 31
  await vi.waitFor(async () => expect(await post(`retry ${Math.random()}`)).toBe(200))
})

it('keys come over https, where the OP does: what names them may not say otherwise [T25]', async () => {
  const issuer = 'https://op.example'
  const asked: string[] = []
  const metadata = {
    issuer,
    authorization_endpoint: `${issuer}/a`,
    token_endpoint: `${issuer}/t`,
    jwks_uri: 'http://op.example/jwks',
  }
  vi.stubGlobal('fetch', async (url: string | URL) => {
    asked.push(String(url))
    return Response.json(String(url).endsWith(METADATA) ? metadata : { keys: op.keys.published })
  })
  const common = { issuer, clientId: 'notes', appUrl: 'https://notes.example', store: memoryStore() }
  const logouts = createLogoutReceiver({ ...common, log: (event) => log.push(event) })
  try {
    const iat = Math.floor(Date.now() / 1000)
    const events = { 'http://schemas.openid.net/event/backchannel-logout': {} }
    const token = await op.mint({ iss: issuer, aud: 'notes', iat, exp: iat + 60, jti: 'j', sid: 's', events })
    const answer = await postForm(logouts, '/auth/backchannel-logout', { logout_token: token })
    expect(JSON.parse(textOf(answer))).toMatchObject({ error: 'temporarily_unavailable' })
    expect(asked).toEqual([issuer + METADATA])
    const wrong = { message: 'its jwks_uri is no URL that begins with https:' }
    expect(log[0]).toMatchObject({ event: 'op_unreachable', url: issuer + METADATA, ...wrong })
  } finally {
    vi.unstubAllGlobals()
    await logouts.close()
  }
})

describe('Logout Tokens that come while the OP answers nothing of use', () => {
  const BROKEN = { status: 500, body: { error: 'server_error' } } as const
  let count = 0
  let waits: number[] = []
  let said: string | undefined
  beforeEach(() => {
    waits = []
  })

  async function post(header: Record<string, unknown> = {}): Promise<number | string | undefined> {
    const iat = Math.floor(Date.now() / 1000) + later
    const events = { 'http://schemas.openid.net/event/backchannel-logout': {} }
    const claims = { iss: op.issuer, aud: 'notes', iat, exp: iat + 60, jti: `j${++count}`, sid: 's', events }
    const answer = await postForm(rp, '/auth/backchannel-logout', { logout_token: await op.mint(claims, header) })
    if (answer.status === 200) return 200
    const wait = answer.headers['retry-after']
    if (wait !== undefined) waits.push(Number(wait))
    const { error, error_description } = JSON.parse(textOf(answer))
    said = error_description
    return error
  }

  const fetches = (path: string) => op.asked.get(path) ?? 0

  it.each([
    METADATA,
    '/jwks',
  ])('make one request to %s in a few seconds, and pass once it is back [BC §2.8]', async (path) => {
    op.answers.set(path, BROKEN)
    for (let i = 0; i < 20; i++) expect(await post()).toBe('temporarily_unavailable')
    expect(fetches(path)).toBe(1)
    op.answers.delete(path)
    later += 4 // before the OP comes again, 5 s after it was told so
    expect(await post()).toBe(200)
    expect(fetches(path)).toBe(2)
  })

  it('or are mere requests for the frame of the front channel make one request for its metadata in a few seconds [T4]', async () => {
    op.answers.set(METADATA, BROKEN)
    const frame = `/auth/frontchannel-logout?${new URLSearchParams({ iss: op.issuer, sid: 's' })}`
    for (let i = 0; i < 5; i++) {
      expect((await ask(rp, 'GET', frame)).status).toBe(200)
      await new Promise((resolve) => setTimeout(resolve, 50)) // it is looked for in the background
    }
    expect(fetches(METADATA)).toBe(1)
  })

  it('leave a key set alone that is no JSON', async () => {
    op.answers.set('/jwks', { status: 200, body: 'no keys' })
    for (let i = 0; i < 5; i++) expect(await post()).toBe('temporarily_unavailable')
    expect(fetches('/jwks')).toBe(1)
  })

  it('pass with the keys that are known, however old they are', async () => {
    expect(await post()).toBe(200)
    op.answers.set('/jwks', BROKEN)
    later += 3_600
    for (let i = 0; i < 10; i++) expect(await post()).toBe(200)
    expect(fetches('/jwks')).toBe(2)
    op.answers.set('/jwks', 'say nothing')
    later += 10
    expect(await post()).toBe(200)
    expect(fetches('/jwks')).toBe(3)
  })

  it('with an unknown kid are put off and make no request each, and hold up no known key', async () => {
    expect(await post()).toBe(200)
    later += 3_600 // else an unknown kid is refused without a request
    op.answers.set('/jwks', BROKEN)
    for (let i = 0; i < 10; i++) expect(await post({ kid: `made up ${i}` })).toBe('temporarily_unavailable')
    expect(await post()).toBe(200)
    expect(fetches('/jwks')).toBe(2)
    await op.rotate()
    op.answers.delete('/jwks')
    later += 4
    expect(await post()).toBe(200)
  })

  it('with a kid that came up since the keys were fetched are put off until they are fetched again, and then pass [A18] [BC §2.8]', async () => {
    expect(await post()).toBe(200)
    await op.rotate()
    later += 10
    for (let i = 0; i < 20; i++) expect(await post({ kid: `made up ${i}` })).toBe('temporarily_unavailable')
    expect(await post()).toBe('temporarily_unavailable')
    expect(said).toMatch(/^none of the OP's keys fits the header, and they are fetched again in \d+ s$/)
    expect(waits).toHaveLength(21)
    expect(waits.every((wait) => wait > 10 && wait <= 20)).toBe(true) // when the keys are fetched again
    expect(fetches('/jwks')).toBe(1)
    later += 20 // as they were told
    expect(await post({ kid: 'made up' })).toBe('invalid_request')
    expect(await post()).toBe(200)
    expect(fetches('/jwks')).toBe(2)
  })

  it('with a made-up kid that come while the keys are fetched for another wait for that answer and make no request', async () => {
    expect(await post()).toBe(200)
    later += 60
    const answers = await Promise.all(Array.from({ length: 50 }, (_, i) => post({ kid: `made up ${i}` })))
    expect(new Set(answers)).toEqual(new Set(['invalid_request', 'temporarily_unavailable']))
    expect(fetches('/jwks')).toBe(2)
  })

  it('are judged by the keys of today once ten minutes have passed: one that was withdrawn is refused [T26]', async () => {
    const { kid } = op.keys
    expect(await post()).toBe(200)
    await op.rotate()
    later += 601
    expect(await post({ kid })).toBe('invalid_request')
  })

  it('do not put off a login at an OP that is back', async () => {
    op.answers.set(METADATA, BROKEN)
    expect(await post()).toBe('temporarily_unavailable')
    op.answers.delete(METADATA)
    expect((await ask(rp, 'GET', '/auth/login')).status).toBe(303)
    expect(await post()).toBe(200)
  })
})

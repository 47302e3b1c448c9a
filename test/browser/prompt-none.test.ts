import { createHash } from 'node:crypto'
import { describe, expect, it, vi } from 'vitest'
import { promptNone } from '../../src/browser/prompt-none.ts'
import { browserCrypto } from '../../src/browser/world.ts'
import { type FakeFrame, fakeWorld, settle } from './fake-world.ts'

const metadata = {
  issuer: 'https://op.example',
  authorization_endpoint: 'https://op.example/auth?tenant=1',
  token_endpoint: 'https://op.example/token',
}
const claims = { iss: metadata.issuer, aud: 'spa', sub: 'ada', name: 'Ada Løvelace' }

interface FakeAnswer {
  redirect?: (request: URLSearchParams) => Record<string, string | null> | undefined
  say?: (frame: FakeFrame, url: string) => void
  token?: (answer: Response, signal: AbortSignal | null | undefined) => Promise<Response>
  idToken?: object
  fragment?: boolean
}

/** One silent check, and how the OP answers it: by the redirect, and at the Token Endpoint. */
async function checkOnce({
  redirect = (request) => ({
    code: 'c1',
    state: request.get('state'),
    session_state: 'one.salt',
    iss: metadata.issuer,
  }),
  say = (frame, url) => frame.say(url, { origin: 'https://app.example' }),
  token = async (answer) => answer,
  idToken,
  fragment = false,
}: FakeAnswer = {}) {
  let nonce: string | null = null
  const bodies: URLSearchParams[] = []
  const world = fakeWorld({
    baseUrl: 'https://app.example/page',
    backend: {
      async fetch(_url, { body, signal }) {
        bodies.push(body as URLSearchParams)
        const payload = Buffer.from(JSON.stringify({ ...claims, nonce, ...idToken })).toString('base64url')
        return token(Response.json({ id_token: `header.${payload}.signature` }), signal)
      },
    },
    opened(frame) {
      const request = new URL(frame.url).searchParams
      nonce = request.get('nonce')
      const answer = redirect(request)
      if (!answer) return
      const parameters = new URLSearchParams(Object.entries(answer).map(([name, value]) => [name, `${value}`]))
      setImmediate(() => say(frame, `https://app.example/silent.html${fragment ? '#' : '?'}${parameters}`))
    },
  })
  const check = promptNone({ metadata, clientId: 'spa', redirectUri: '/silent.html' }, world)
  const result = check(new AbortController().signal).then(
    (answer) => answer ?? 'nobody',
    (error) => error.code ?? error,
  )
  await vi.waitFor(() => expect(world.framesOpened).toHaveLength(1)) // hashing is done by another thread
  await settle()
  return { world, result, bodies, request: new URL(world.framesOpened[0]?.url ?? '') }
}

describe('prompt=none in a page', () => {
  it('asks with PKCE, state and nonce, and finds out who is signed in [SM §3.1]', async () => {
    const { result, request, bodies, world } = await checkOnce()
    expect(await result).toEqual({ sub: 'ada', sessionState: 'one.salt' })
    const asked = Object.fromEntries(request.searchParams)
    expect(asked).toMatchObject({
      tenant: '1',
      prompt: 'none',
      scope: 'openid',
      response_type: 'code',
      redirect_uri: 'https://app.example/silent.html',
      code_challenge_method: 'S256',
    })
    const verifier = bodies[0]?.get('code_verifier') ?? ''
    expect(createHash('sha256').update(verifier).digest('base64url')).toBe(asked.code_challenge)
    expect(new Set([asked.state, asked.nonce, verifier]).size).toBe(3)
    expect(world.frames).toEqual([])
    expect(world.leftovers()).toBe(0)
  })

  it('reads an answer in the fragment as well', async () => {
    expect(await (await checkOnce({ fragment: true })).result).toMatchObject({ sub: 'ada' })
  })

  it('says that nobody is signed in on login_required, and on nothing else', async () => {
    const answer = (error: string) => checkOnce({ redirect: (request) => ({ error, state: request.get('state') }) })
    expect(await (await answer('login_required')).result).toBe('nobody')
    for (const error of ['consent_required', 'interaction_required', 'temporarily_unavailable', 'server_error']) {
      expect(await (await answer(error)).result).toBe(error)
    }
  })

  it('gives an OP up that shows a login page instead, after ten seconds', async () => {
    const { world, result } = await checkOnce({ redirect: () => undefined })
    await world.advance(10_000)
    expect(await result).toBe('timeout')
    expect(world.frames).toEqual([])
  })

  it.each([
    ['the answer to another request', { redirect: () => ({ code: 'c', state: 'other' }) }],
    [
      'an answer of another origin',
      { say: (frame: FakeFrame, url: string) => frame.say(url, { origin: 'https://evil.example' }) },
    ],
    [
      'an answer that is not from the frame',
      { say: (frame: FakeFrame, url: string) => frame.say(url, { origin: 'https://app.example', source: {} }) },
    ],
    ['something else', { say: (frame: FakeFrame) => frame.say({}, { origin: 'https://app.example' }) }],
  ])('does not listen to %s', async (_, op) => {
    const { world, result, bodies } = await checkOnce(op)
    await world.advance(10_000)
    expect(await result).toBe('timeout')
    expect(bodies).toEqual([])
  })

  it('does not wait for ever for a Token Endpoint that hangs', async () => {
    const { world, result } = await checkOnce({
      token: (_answer, signal) =>
        new Promise((_resolve, reject) => {
          signal?.addEventListener('abort', () => reject(signal.reason as Error))
        }),
    })
    await world.advance(10_000)
    expect(await result).toBe('timeout')
    expect(world.leftovers()).toBe(0)
  })

  it('works where there are neither AbortSignal.any nor URL.canParse (Safari before 17)', async () => {
    const missing = () => {
      throw new TypeError('not a function')
    }
    const old = [vi.spyOn(AbortSignal, 'any'), vi.spyOn(URL, 'canParse')]
    for (const spy of old) spy.mockImplementation(missing)
    expect(await (await checkOnce()).result).toEqual({ sub: 'ada', sessionState: 'one.salt' })
    for (const spy of old) spy.mockRestore()
  })

  it.each([
    ['another issuer', { iss: 'https://evil.example' }],
    ['another audience', { aud: ['other'] }],
    ['another nonce', { nonce: 'other' }],
    ['no subject', { sub: undefined }],
  ])('does not believe an ID Token of %s [Core §3.1.3.7]', async (_, idToken) => {
    expect(await (await checkOnce({ idToken })).result).toBe('invalid_response')
  })

  it('does not believe an answer of another issuer [RFC 9207]', async () => {
    const mixedUp = await checkOnce({
      redirect: (request) => ({ code: 'c', state: request.get('state'), iss: 'https://evil.example' }),
    })
    expect(await mixedUp.result).toBe('invalid_response')
    expect(mixedUp.bodies).toEqual([])
  })

  it('draws 256 bits for each of its secrets', () => {
    const { randomText } = browserCrypto()
    expect(randomText()).toMatch(/^[\w-]{43}$/)
    expect(randomText()).not.toBe(randomText())
  })
})

import type { RequestListener } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { createRelyingParty, type RpLogEvent } from '../../src/rp.ts'
import { memoryStore } from '../../src/rp-memory.ts'
import { selfSigned } from '../support/self-signed.ts'
import { type FakeOp, startFakeOp } from './fake-op.ts'
import { ask, postForm, textOf } from './plain-request.ts'
import { listen, shut } from './support.ts'

/* Whoever sets an app up reads in its log which URL was asked and what came back from there. */

const METADATA = '/.well-known/openid-configuration'

const cleanup: (() => unknown)[] = []
afterEach(async () => {
  for (const step of cleanup.splice(0).reverse()) await step()
})

function appOf(issuer: string) {
  const log: RpLogEvent[] = []
  const rp = createRelyingParty({
    issuer,
    clientId: 'notes',
    clientSecret: 'the client secret',
    appUrl: 'https://notes.example',
    store: memoryStore(),
    log: (event) => log.push(event),
  })
  cleanup.push(() => rp.close())
  return { rp, log }
}

async function fakeOp(): Promise<FakeOp> {
  const op = await startFakeOp()
  cleanup.push(() => op.close())
  return op
}

/** Begins a login at an issuer of which nothing is known yet, and says what the log and the page say. */
async function loginAt(issuer: string) {
  const { rp, log } = appOf(issuer)
  const { status, ...answer } = await ask(rp, 'GET', '/auth/login')
  return { status, page: textOf({ status, ...answer }), log }
}

async function loginAtServer(listener: RequestListener) {
  const { server, port } = await listen(listener)
  cleanup.push(() => shut(server))
  const issuer = `http://127.0.0.1:${port}`
  return { issuer, ...(await loginAt(issuer)) }
}

const says =
  (status: number, headers: Record<string, string>, body = ''): RequestListener =>
  (_req, res) =>
    res.writeHead(status, headers).end(body)

const JSON_TYPE = { 'content-type': 'application/json' }

describe('a login at an OP whose metadata cannot be used', () => {
  it.each([
    [
      'a page',
      says(200, { 'content-type': 'text/html; charset=utf-8' }, '<!doctype html>'),
      'it answered 200 with text/html; charset=utf-8',
    ],
    ['404', says(404, { 'content-type': 'text/plain' }, 'no'), 'it answered 404 with text/plain'],
    ['an error without a body', says(502, {}), 'it answered 502 with no content-type'],
    [
      'a redirect',
      says(302, { location: 'https://sso.example/realms/x' }),
      'it answered 302 and would send us to https://sso.example/realms/x, where nobody follows',
    ],
    ['half of a JSON document', says(200, JSON_TYPE, '{"issuer":"https://secret'), 'its answer is no JSON'],
    ['no object', says(200, JSON_TYPE, '[]'), '"response" body must be a top level object'],
    ['no issuer', says(200, JSON_TYPE, '{}'), '"response" body "issuer" property must be a string'],
    [
      'another issuer',
      says(200, JSON_TYPE, '{"issuer":"https://sso.example/realms/x"}'),
      'it calls itself "https://sso.example/realms/x": the option issuer must be spelled like that',
    ],
    ['an issuer that hangs up', ((req) => req.socket.destroy()) satisfies RequestListener, 'other side closed'],
  ])('says which URL was asked and that %s came back', async (_what, listener, message) => {
    const { issuer, status, page, log } = await loginAtServer(listener)
    expect(status).toBe(503)
    expect(page).toContain(`${issuer}${METADATA}`)
    expect(log).toEqual([{ event: 'op_unreachable', url: `${issuer}${METADATA}`, message }])
  })

  it('says that the issuer is spelled without the slash at its end, which would make each Logout Token one of another OP', async () => {
    const op = await fakeOp()
    const { status, log } = await loginAt(`${op.issuer}/`)
    expect(status).toBe(503)
    const message = `it calls itself "${op.issuer}": the option issuer must be spelled like that`
    expect(log).toEqual([{ event: 'op_unreachable', url: op.issuer + METADATA, message }])
  })

  it('says so also where openid-client lets another issuer pass, as at Entra ID: each Logout Token would be another OP’s', async () => {
    const at = 'https://login.microsoftonline.com'
    const metadata = {
      issuer: `${at}/{tenantid}/v2.0`,
      authorization_endpoint: `${at}/a`,
      token_endpoint: `${at}/t`,
      jwks_uri: `${at}/j`,
    }
    vi.stubGlobal('fetch', async () => Response.json(metadata))
    cleanup.push(() => vi.unstubAllGlobals())
    const { status, log } = await loginAt(`${at}/common/v2.0`)
    expect(status).toBe(503)
    const message = `it calls itself "${at}/{tenantid}/v2.0": the option issuer must be spelled like that`
    expect(log).toEqual([{ event: 'op_unreachable', url: `${at}/common/v2.0${METADATA}`, message }])
  })

  it.each([
    'jwks_uri',
    'userinfo_endpoint',
    'revocation_endpoint',
    'end_session_endpoint',
  ])('says that %s of an OP on https is not, and sends nothing there in the clear [T25]', async (name) => {
    const issuer = 'https://op.example'
    const metadata = {
      issuer,
      authorization_endpoint: `${issuer}/a`,
      token_endpoint: `${issuer}/t`,
      jwks_uri: `${issuer}/j`,
      [name]: 'http://op.example/x',
    }
    vi.stubGlobal('fetch', async () => Response.json(metadata))
    cleanup.push(() => vi.unstubAllGlobals())
    const { status, log } = await loginAt(issuer)
    expect(status).toBe(503)
    const message = `its ${name} is no URL that begins with https:`
    expect(log).toEqual([{ event: 'op_unreachable', url: issuer + METADATA, message }])
  })

  it.each([
    ['authorization_endpoint', undefined],
    ['authorization_endpoint', 'javascript:alert(1)'],
    ['token_endpoint', undefined],
    ['jwks_uri', undefined],
    ['end_session_endpoint', 'javascript:alert(1)'],
    ['end_session_endpoint', ['https://op.example/end']],
    ['userinfo_endpoint', 'data:application/json,{}'],
    ['revocation_endpoint', 'localhost'],
    ['check_session_iframe', 'data:text/html,x'],
  ])('says that %s is missing or wrong where it is %j, and sends nobody there', async (name, value) => {
    const op = await fakeOp()
    const metadata = (await (await fetch(op.issuer + METADATA)).json()) as Record<string, unknown>
    op.answers.set(METADATA, { status: 200, body: { ...metadata, [name]: value } })
    const { status, log } = await loginAt(op.issuer)
    expect(status).toBe(503)
    const message = `its ${name} is no URL that begins with https: or http:`
    expect(log).toEqual([{ event: 'op_unreachable', url: op.issuer + METADATA, message }])
  })

  it('says that nobody listens there', async () => {
    const { server, port } = await listen(says(200, {}))
    await shut(server)
    const { log } = await loginAt(`http://127.0.0.1:${port}`)
    expect(log).toEqual([expect.objectContaining({ message: `connect ECONNREFUSED 127.0.0.1:${port}` })])
  })

  it('says that the name is nobody’s', async () => {
    const { log } = await loginAt('https://op.invalid')
    expect(log).toEqual([expect.objectContaining({ message: expect.stringMatching(/op\.invalid/) })])
  })

  it('says that the certificate is not to be trusted', async () => {
    const server = createHttpsServer(selfSigned(), says(200, {}))
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    cleanup.push(() => shut(server))
    const { port } = server.address() as { port: number }
    const { log } = await loginAt(`https://127.0.0.1:${port}`)
    expect(log).toEqual([expect.objectContaining({ message: expect.stringMatching(/^self-signed certificate/) })])
  })

  it('reads no more than a mebibyte of what comes', async () => {
    let written = 0
    const chunk = 'x'.repeat(65_536)
    const { log } = await loginAtServer((_req, res) => {
      res.writeHead(200, JSON_TYPE)
      const write = (): void => {
        while (!res.destroyed && written < 200_000_000 && res.write(chunk)) written += chunk.length
      }
      res.on('drain', write)
      write()
    })
    expect(log).toEqual([expect.objectContaining({ message: 'the answer is larger than 1048576 bytes' })])
    expect(written).toBeLessThan(20_000_000)
  })

  it.each([
    ['says nothing', () => undefined],
    ['stops in the middle of its answer', (_req, res) => void res.writeHead(200, JSON_TYPE).write('{"issuer":')],
  ] satisfies [string, RequestListener][])('does not wait longer than 5 s for one that %s', async (_what, listener) => {
    const { status, log } = await loginAtServer(listener)
    expect(status).toBe(503)
    expect(log).toEqual([expect.objectContaining({ message: 'it did not answer in time' })])
  })
})

describe('what else the OP is asked for', () => {
  it.each([
    [{ status: 404, body: {} }, 'it answered 404 with application/json'],
    [
      { status: 302, body: {}, headers: { location: 'https://x.example/' } },
      'it answered 302 and would send us to https://x.example/',
    ],
    [{ status: 200, body: { keys: 'x'.repeat(2_000_000) } }, 'the answer is larger than 1048576 bytes'],
  ])('its keys: the log says where they were looked for and what came back (%#)', async (answer, message) => {
    const op = await fakeOp()
    const { rp, log } = appOf(op.issuer)
    op.answers.set('/jwks', answer)
    const iat = Math.floor(Date.now() / 1000)
    const events = { 'http://schemas.openid.net/event/backchannel-logout': {} }
    const token = await op.mint({ iss: op.issuer, aud: 'notes', iat, exp: iat + 60, jti: 'j', sid: 's', events })
    const refused = await postForm(rp, '/auth/backchannel-logout', { logout_token: token })
    expect(JSON.parse(textOf(refused))).toMatchObject({ error: 'temporarily_unavailable' })
    expect(log).toEqual([
      { event: 'logout_not_recorded', message: expect.stringContaining(`${op.issuer}/jwks: ${message}`) },
    ])
  })

  it.each([
    [{ status: 502, body: {}, headers: { 'content-type': 'text/html' } }, 'it answered 502 with text/html'],
    [{ status: 200, body: { access_token: 'x'.repeat(2_000_000) } }, 'the answer is larger than 1048576 bytes'],
  ])('its Token Endpoint: the log says what came back (%#)', async (answer, message) => {
    const op = await fakeOp()
    const { rp, log } = appOf(op.issuer)
    const begun = await ask(rp, 'GET', '/auth/login')
    const state = new URL(begun.headers.location ?? '').searchParams.get('state') ?? ''
    op.answers.set('/token', answer)
    const cookie = begun.cookies.map((line) => line.split(';')[0]).join('; ')
    const query = new URLSearchParams({ code: 'c', state, iss: op.issuer })
    await ask(rp, 'GET', `/auth/callback?${query}`, { cookie })
    await vi.waitFor(() => expect(log).toHaveLength(1))
    expect(log[0]).toMatchObject({ event: 'login_failed', message: expect.stringContaining(message) })
  })
})

import { createHash } from 'node:crypto'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { authorize } from '../support/op-flow.ts'
import { type RpSite, startRpSite } from '../support/rp-site.ts'
import { startTestOp, type TestOp } from '../support/test-op.ts'
import { createUserAgent } from '../support/user-agent.ts'

let rps: RpSite
let op: TestOp
let url: string

beforeAll(async () => {
  rps = await startRpSite()
  const spaced = rps.client('notes & more', {
    redirect_uris: [`${rps.origin('spaced')}/cb`],
    post_logout_redirect_uris: [],
    backchannel_logout_uri: undefined,
  })
  const phone = rps.client('phone', {
    application_type: 'native',
    redirect_uris: ['org.example.phone:/cb'],
    post_logout_redirect_uris: [],
  })
  op = await startTestOp({ clients: [rps.client('notes'), spaced, phone] })
  url = `${op.issuer}/session/check`
})
afterAll(async () => {
  await op.close()
  await rps.close()
})

const load = (headers: Record<string, string> = {}) => fetch(url, { headers })
const ask = (body: unknown, headers: Record<string, string> = {}) =>
  fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  })

describe('the OP iframe', () => {
  it('runs the one script whose hash its policy names, and may talk to the OP only [SM-3.2-b]', async () => {
    const response = await load()
    expect(response.status).toBe(200)
    expect(response.headers.get('content-type')).toBe('text/html; charset=utf-8')
    const page = await response.text()
    const scripts = [...page.matchAll(/<script[^>]*>([\s\S]*?)<\/script>/g)]
    expect(scripts).toHaveLength(1)
    expect(scripts[0]?.[1]).toContain('postMessage')
    const hash = createHash('sha256')
      .update(scripts[0]?.[1] ?? '')
      .digest('base64')
    expect(response.headers.get('content-security-policy')).toBe(
      `default-src 'none'; script-src 'sha256-${hash}'; connect-src 'self'; base-uri 'none'`,
    )
  })

  it('is a page under 1 kB when compressed, which asks nobody else for anything [design §4]', async () => {
    const page = await (await load({ 'sec-fetch-site': 'cross-site' })).text()
    expect(gzipSync(page).length).toBeLessThan(1000)
    expect(page).not.toMatch(/https?:|\bsrc=|<link/)
  })

  it('may be framed by every RP, unlike all other pages [SM §3.2]', async () => {
    const response = await load()
    expect(response.headers.get('x-frame-options')).toBeNull()
    expect(response.headers.get('content-security-policy')).not.toContain('frame-ancestors')
  })

  it('is cached per browser and per kind of site only [T27]', async () => {
    const response = await load()
    expect(response.headers.get('cache-control')).toBe('private, max-age=3600')
    expect(response.headers.get('vary')).toContain('Sec-Fetch-Site')
    expect(response.headers.get('referrer-policy')).toBe('no-referrer')
    expect(response.headers.get('x-content-type-options')).toBe('nosniff')
  })

  it.each([
    ['same-origin', 'same-origin'],
    ['same-site', 'same-site'],
    ['cross-site', 'cross-site'],
    ['none', 'unknown'],
    ['"><script>alert(1)</script>', 'unknown'],
    ['Cross-Site', 'unknown'],
  ])('says for Sec-Fetch-Site: %s that its site is %s [browsers 5]', async (sent, site) => {
    expect(await (await load({ 'sec-fetch-site': sent })).text()).toContain(`data-site="${site}"`)
  })

  it('says unknown when the browser says nothing [browsers 5]', async () => {
    expect(await (await load()).text()).toContain('data-site="unknown"')
  })

  it('reads the cookie that the OP sets, and asks at its own path', async () => {
    const browser = createUserAgent()
    await authorize(browser, op, rps.client('notes'), { prompt: 'none' })
    const [cookie] = browser.cookies(op.issuer).filter(({ name }) => name.startsWith('__Host-op_state.'))
    const page = await (await load()).text()
    expect(page).toContain(`data-cookie="${cookie?.name}"`)
    expect(page).toContain('data-check="/session/check"')
    await browser.close()
  })

  it('sets no cookie, whoever frames it [browsers 3]', async () => {
    for (const site of ['cross-site', 'same-origin']) {
      const response = await load({ 'sec-fetch-site': site, 'sec-fetch-dest': 'iframe' })
      expect(response.headers.getSetCookie()).toEqual([])
    }
  })

  it('is the same for everybody: nothing of the user is in it [SM-3.2-l]', async () => {
    const browser = createUserAgent()
    const anonymous = await browser.frame(rps.origin('notes'), url)
    await authorize(browser, op, rps.client('notes'))
    expect((await browser.frame(rps.origin('notes'), url)).body).toBe(anonymous.body)
    await browser.close()
  })
})

describe('the question whether an origin may ask about a client', () => {
  it.each<[number, string, () => unknown]>([
    [204, 'the origin of a redirect URI', () => ({ client_id: 'notes', origin: rps.origin('notes') })],
    [204, 'a client whose id has spaces', () => ({ client_id: 'notes & more', origin: rps.origin('spaced') })],
    [403, 'the origin of another client', () => ({ client_id: 'notes', origin: rps.origin('spaced') })],
    [403, 'an unknown client', () => ({ client_id: 'nobody', origin: rps.origin('notes') })],
    [403, 'another port', () => ({ client_id: 'notes', origin: 'http://notes.localhost:1' })],
    [403, 'another scheme', () => ({ client_id: 'notes', origin: rps.origin('notes').replace('http:', 'https:') })],
    [403, 'an origin with a slash', () => ({ client_id: 'notes', origin: `${rps.origin('notes')}/` })],
    [403, 'an origin that is only longer', () => ({ client_id: 'notes', origin: `${rps.origin('notes')}0` })],
    [403, 'the opaque origin of a native app', () => ({ client_id: 'phone', origin: 'null' })],
    [403, 'a wildcard', () => ({ client_id: 'notes', origin: '*' })],
    [403, 'a client named like a property', () => ({ client_id: '__proto__', origin: rps.origin('notes') })],
    [400, 'no origin', () => ({ client_id: 'notes' })],
    [400, 'no client', () => ({ origin: rps.origin('notes') })],
    [400, 'a list of clients', () => ({ client_id: ['notes'], origin: rps.origin('notes') })],
    [400, 'null', () => null],
    [400, 'a number', () => 42],
    [400, 'a text', () => '"notes"'],
    [400, 'no JSON', () => '{"client_id":'],
    [400, 'nothing', () => ''],
    [413, 'more than 4 kB', () => ({ client_id: 'notes', origin: rps.origin('notes'), more: 'x'.repeat(5000) })],
  ])('is answered %i for %s [SM-3.2-b] [E35]', async (status, _what, body) => {
    const response = await ask(body())
    expect(response.status).toBe(status)
    expect(response.headers.get('cache-control')).toBe('no-store')
    expect(await response.text()).toBe('')
  })

  it('is not answered to scripts of other origins [SM-6]', async () => {
    const response = await ask({ client_id: 'notes', origin: rps.origin('notes') }, { origin: 'https://evil.example' })
    expect(response.headers.get('access-control-allow-origin')).toBeNull()
  })

  it('is the only other thing that the path takes', async () => {
    for (const method of ['PUT', 'DELETE', 'PATCH']) {
      const response = await fetch(url, { method })
      expect(response.status).toBe(405)
      expect(response.headers.get('allow')).toBe('GET, HEAD, POST')
    }
  })
})

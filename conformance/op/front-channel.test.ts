import { decodeJwt } from 'jose'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type RpSite, startRpSite } from '../../test/support/rp-site.ts'
import { createUserAgent, type Page, type UserAgent } from '../../test/support/user-agent.ts'
import { expectDiscovery, expectLoginRequired } from './assertions.ts'
import { type App, authorize, logIn, logoutUrl, silently, wildState } from './relying-party.ts'
import { type OpUnderTest, refusedStart, startOp } from './server-program.ts'

let rps: RpSite
let op: OpUnderTest
let browser: UserAgent
let notes: App
let other: App
let bye: string

/** An app that can only be told in a frame; the OP is https, so its frame must be as well. */
function framed(app: string): App {
  const secure = rps.origin(app).replace('http:', 'https:')
  return rps.client(app, {
    redirect_uris: [`${rps.origin(app)}/cb`, `${secure}/cb`],
    backchannel_logout_uri: undefined,
    frontchannel_logout_uri: `${secure}/front?kept=1`,
    frontchannel_logout_session_required: true,
  })
}

beforeEach(async () => {
  rps = await startRpSite()
  notes = framed('notes')
  other = framed('other')
  bye = `${rps.origin('notes')}/bye`
  op = await startOp([notes, other])
  browser = createUserAgent()
})
afterEach(async () => {
  await browser.close()
  await op.close()
  await rps.close()
})

const unescaped = (text: string): string => text.replaceAll('&#39;', "'").replaceAll('&amp;', '&')

/** What a browser does with the page: it loads each frame and then goes on. */
async function like(page: Page): Promise<{ frames: URL[]; next: string }> {
  const frames = [...page.body.matchAll(/<iframe src="([^"]*)"/g)].map(([, src = '']) => new URL(unescaped(src)))
  const next = unescaped(/http-equiv="refresh" content="\d+;url=([^"]*)"/.exec(page.body)?.[1] ?? '')
  for (const { href } of frames) await browser.frame(page, href.replace('https:', 'http:')) // the site of the tests is http
  return { frames, next }
}

describe('oidcc-frontchannel-rp-initiated-logout-certification-test-plan', () => {
  it('discovery [oidcc-frontchannel-logout-discovery-endpoint-verification] [FCL-3-b]', async () => {
    await expectDiscovery(op)
    expect(op.metadata).toMatchObject({
      frontchannel_logout_supported: true,
      frontchannel_logout_session_supported: true,
    })
  })

  it('the frame with iss and sid, and the redirect with state [oidcc-frontchannel-rp-initiated-logout] [FCL-2-b/c/e] [RPI-2-i]', async () => {
    const { tokens } = await logIn(browser, op, notes)
    const params = { id_token_hint: tokens.id_token, post_logout_redirect_uri: bye, state: wildState }
    const page = await browser.open(logoutUrl(op, params))
    const { frames, next } = await like(page)
    expect(rps.log.filter((line) => line.includes('/front'))).toHaveLength(1)
    expect(Object.fromEntries(frames[0]?.searchParams ?? [])).toEqual({
      kept: '1',
      iss: op.metadata.issuer,
      sid: decodeJwt(tokens.id_token).sid,
    })
    const back = await browser.click(page, next)
    expect(back.url.startsWith(`${bye}?`)).toBe(true)
    expect([...new URL(back.url).searchParams]).toEqual([['state', wildState]])
    expectLoginRequired(op, await silently(browser, op, notes))
  })
})

describe('beyond the suite', () => {
  it('frames the RPs of this session and no others [FCL-2-c] [FCL-3-a]', async () => {
    const phone = createUserAgent()
    await logIn(phone, op, other)
    const { tokens } = await logIn(browser, op, notes)
    const { frames } = await like(await browser.open(logoutUrl(op, { id_token_hint: tokens.id_token })))
    expect(frames.map(({ hostname }) => hostname)).toEqual(['notes.localhost'])
    expect((await silently(phone, op, other)).has('code')).toBe(true)
    await phone.close()
  })

  it.each([
    ['another origin', 'https://elsewhere.localhost/front'],
    ['a fragment', 'https://notes.localhost/front#x'],
    ['no origin', '/front'],
    ['http', 'http://notes.localhost/front'],
  ])('refuses a frontchannel_logout_uri with %s, and says so [FCL-2-a] [FCL-2-b] [E13]', async (_what, uri) => {
    const redirect_uris = ['https://notes.localhost/cb', 'http://notes.localhost/cb']
    const { code, said } = await refusedStart([{ ...notes, redirect_uris, frontchannel_logout_uri: uri }])
    expect(code).toBe(2)
    expect(said).toContain('frontchannel_logout_uri')
  })

  it('answers a prompt it does not support with a 400 that goes to no app [PC-4.1-d] [E43]', async () => {
    expect(op.metadata.prompt_values_supported).not.toContain('create')
    const { page } = await authorize(browser, op, notes, { prompt: 'create' })
    expect(page.status).toBe(400)
    expect(rps.log).toEqual([])
  })
})

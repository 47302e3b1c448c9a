import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { authorizationUrl, authorize, isSignedIn, logIn, logoutUrl } from '../support/op-flow.ts'
import { type RpSite, startRpSite } from '../support/rp-site.ts'
import { startTestOp, type TestOp } from '../support/test-op.ts'
import { createUserAgent, type UserAgent } from '../support/user-agent.ts'

const hour = 3_600_000
const idle = 14 * 24 * hour // ttl.Session of the test OP

let rps: RpSite
let op: TestOp
let browser: UserAgent
let notes: ReturnType<RpSite['client']>
let begin = 0

beforeEach(async () => {
  vi.useFakeTimers({ toFake: ['Date'] }) // the clock of oidc-provider, of Lockstep and of the browser
  begin = Date.now()
  rps = await startRpSite()
  browser = createUserAgent()
  notes = rps.client('notes')
})
afterEach(async () => {
  await op.close()
  await browser.close()
  await rps.close()
  vi.useRealTimers()
})

function later(ms: number): void {
  vi.setSystemTime(begin + ms)
}

async function start(sessionLifetime?: number): Promise<void> {
  op = await startTestOp({
    clients: [notes],
    ...(sessionLifetime === undefined ? {} : { options: { sessionLifetime } }),
  })
}

async function expiresAt(): Promise<number> {
  const {
    sessions: [session],
  } = await op.provider.opSessions.list({ accountId: 'ada' })
  return session?.expiresAt ?? Number.NaN
}

describe('the idle lifetime of an OP session', () => {
  it('is not extended by prompt=none, however often RPs ask [T11]', async () => {
    await start()
    await logIn(browser, op, notes)
    const first = await expiresAt()
    for (const hours of [1, 2, 100, 300]) {
      later(hours * hour)
      expect(await isSignedIn(browser, op, notes)).toBe(true)
      expect(await expiresAt()).toBe(first)
    }
    later(idle + hour)
    expect(await isSignedIn(browser, op, notes)).toBe(false)
  })

  it('is not extended by prompt=none in a frame [T11]', async () => {
    await start()
    await logIn(browser, op, notes)
    const first = await expiresAt()
    later(24 * hour)
    const silent = await browser.frame(rps.origin('notes'), authorizationUrl(op, notes, { prompt: 'none' }))
    expect(new URL(silent.url).searchParams.get('code')).toMatch(/./)
    expect(await expiresAt()).toBe(first)
  })

  it('is not extended by the OP iframe, by whom it speaks for, or by the pages about the logout before [T11]', async () => {
    await start()
    await logIn(browser, op, notes)
    await browser.submit(await browser.open(logoutUrl(op)), { answer: 'yes' }, '/ask')
    await logIn(browser, op, notes)
    const first = await expiresAt()
    later(hour / 12) // the receipt is there for ten minutes
    const opIframe = await browser.frame(rps.origin('notes'), `${op.issuer}/session/check`)
    expect(opIframe.status).toBe(200)
    const asked = JSON.stringify({ client_id: 'notes', origin: rps.origin('notes') })
    const headers = { 'content-type': 'application/json' }
    const speaks = await browser.fetch(op.issuer, opIframe.url, { method: 'POST', headers, body: asked })
    expect(speaks.status).toBe(204)
    const signedOut = `${op.issuer}/session/end/signed-out`
    expect((await browser.fetch(op.issuer, signedOut, { headers: { accept: 'application/json' } })).status).toBe(200)
    await browser.open(signedOut)
    await browser.open(logoutUrl(op)) // asks, and is not answered
    expect(await expiresAt()).toBe(first)
  })

  it('is extended when the user comes by himself [T11]', async () => {
    await start()
    await logIn(browser, op, notes)
    const first = await expiresAt()
    later(24 * hour)
    await authorize(browser, op, notes)
    expect(await expiresAt()).toBeGreaterThanOrEqual(first + 24 * 3600)
    later(idle + hour)
    expect(await isSignedIn(browser, op, notes)).toBe(true)
  })
})

describe('the absolute lifetime of an OP session', () => {
  it('holds, however busy the user is [T11]', async () => {
    await start((20 * hour) / 1000)
    await logIn(browser, op, notes)
    const end = await expiresAt()
    for (const hours of [5, 10, 15, 19]) {
      later(hours * hour)
      await authorize(browser, op, notes)
      expect(await expiresAt()).toBe(end)
    }
    later(21 * hour)
    expect(await isSignedIn(browser, op, notes)).toBe(false)
  })

  it('is 30 days when the operator says nothing [T11]', async () => {
    await start()
    await logIn(browser, op, notes)
    for (const day of [10, 20, 29]) {
      later(day * 24 * hour)
      await authorize(browser, op, notes)
    }
    expect(await expiresAt()).toBe(Math.floor(begin / 1000) + 30 * 86_400)
  })

  it('is over for tokens too [T11]', async () => {
    await start((20 * hour) / 1000)
    const { tokens } = await logIn(browser, op, notes)
    later(21 * hour)
    const response = await fetch(`${op.issuer}/me`, { headers: { authorization: `Bearer ${tokens.access_token}` } })
    expect(response.status).toBe(401)
  })

  it('lets the user sign in again in the same browser afterwards', async () => {
    await start((20 * hour) / 1000)
    await logIn(browser, op, notes)
    later(21 * hour)
    expect((await authorize(browser, op, notes)).code).toMatch(/./)
  })
})

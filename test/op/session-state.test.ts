import { createHash } from 'node:crypto'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { answerOn, authorizationUrl, authorize, logIn, logoutUrl } from '../support/op-flow.ts'
import { type RpSite, startRpSite } from '../support/rp-site.ts'
import { startTestOp, type TestOp } from '../support/test-op.ts'
import { createUserAgent, type UserAgent } from '../support/user-agent.ts'

let rps: RpSite
let op: TestOp
let browser: UserAgent
let notes: ReturnType<RpSite['client']>
let mail: ReturnType<RpSite['client']>

beforeAll(async () => {
  rps = await startRpSite()
  notes = rps.client('notes', { redirect_uris: [`${rps.origin('notes')}/cb`, `${rps.origin('other')}/cb`] })
  mail = rps.client('mail')
  op = await startTestOp({ clients: [notes, mail] })
})
afterAll(async () => {
  await op.close()
  await rps.close()
})
beforeEach(() => {
  browser = createUserAgent()
})
afterEach(() => browser.close())

function stateCookie(): string {
  const found = browser.cookies(op.issuer).filter(({ name }) => name.startsWith('__Host-op_state.'))
  expect(found).toHaveLength(1)
  return found[0]?.value ?? ''
}

/** By hand, with nothing of ours: what Session Management §2 says. */
function recompute(sessionState: string, clientId: string, origin: string): string {
  const salt = sessionState.split('.')[1]
  const hash = createHash('sha256').update(`${clientId} ${origin} ${stateCookie()} ${salt}`).digest('base64url')
  return `${hash}.${salt}`
}

describe.each(['query', 'fragment', 'form_post'])('session_state by response_mode=%s', (mode) => {
  /** The fields that reach the RP; a form that posts itself is read before it is sent. */
  async function answer(params: Record<string, string>): Promise<URLSearchParams> {
    const before = rps.log.length
    const { page, params: visible } = await authorize(browser, op, notes, { response_mode: mode, ...params })
    if (mode !== 'form_post') return visible
    expect(rps.log.slice(before)).toEqual(['POST notes /cb'])
    expect(page.url).toBe(`${rps.origin('notes')}/cb`)
    return rps.forms.at(-1) ?? new URLSearchParams()
  }

  it('is in a success and can be recomputed from the readable cookie [SM-2-a]', async () => {
    const fields = await answer({})
    expect(fields.get('code')).toMatch(/./)
    const state = fields.get('session_state') ?? ''
    expect(state).toBe(recompute(state, 'notes', rps.origin('notes')))
    expect(state).not.toContain(' ')
  })

  it('is in an error and can be recomputed from the readable cookie [SM-2-b]', async () => {
    const fields = await answer({ prompt: 'none' })
    expect(fields.get('error')).toBe('login_required')
    expect(fields.get('state')).toBe('xyz')
    const state = fields.get('session_state') ?? ''
    expect(state).toBe(recompute(state, 'notes', rps.origin('notes')))
    expect(state).not.toContain(' ')
  })
})

describe('session_state', () => {
  it('has a fresh salt of 128 bits in each response, so that two never link a user [SM-3.2-i]', async () => {
    const states = []
    for (let i = 0; i < 4; i++) states.push((await authorize(browser, op, notes, { prompt: 'none' })).sessionState)
    expect(new Set(states.map((state) => state.split('.')[0])).size).toBe(4)
    expect(new Set(states.map((state) => state.split('.')[1])).size).toBe(4)
    for (const state of states) expect(state).toMatch(/^[\w-]{43}\.[\w-]{22}$/)
  })

  it('is made for the client and for the origin the answer goes to [SM-2-e]', async () => {
    await logIn(browser, op, notes)
    const other = await authorize(browser, op, notes, { redirect_uri: `${rps.origin('other')}/cb`, prompt: 'none' })
    const toMail = await authorize(browser, op, mail, { prompt: 'none' })
    expect(other.sessionState).toBe(recompute(other.sessionState, 'notes', rps.origin('other')))
    expect(other.sessionState).not.toBe(recompute(other.sessionState, 'notes', rps.origin('notes')))
    expect(toMail.sessionState).toBe(recompute(toMail.sessionState, 'mail', rps.origin('mail')))
  })

  it('is in errors that are found before anybody is looked up [SM-2-b]', async () => {
    const { params } = await authorize(browser, op, notes, { prompt: 'none login' })
    expect(params.get('error')).toBe('invalid_request')
    const state = params.get('session_state') ?? ''
    expect(state).toBe(recompute(state, 'notes', rps.origin('notes')))
  })

  it('in an error of a request that fails early still shows who is signed in [SM-3.2-h]', async () => {
    await logIn(browser, op, notes)
    const cookie = stateCookie()
    const { params } = await authorize(browser, op, notes, { prompt: 'none login' })
    expect(params.get('error')).toBe('invalid_request')
    expect(stateCookie()).toBe(cookie)
    const state = params.get('session_state') ?? ''
    expect(state).toBe(recompute(state, 'notes', rps.origin('notes')))
  })

  it('is not sent anywhere when the redirect URI is not the client’s [RFC 6749 §4.1.2.1]', async () => {
    const page = await browser.open(authorizationUrl(op, notes, { redirect_uri: 'http://evil.localhost/cb' }))
    expect(page.status).toBe(400)
    expect(new URL(page.url).origin).toBe(op.issuer)
    expect(page.body).not.toContain('session_state')
  })
})

describe('the browser state', () => {
  it('changes on login and on logout [SM-3.2-g]', async () => {
    await authorize(browser, op, notes, { prompt: 'none' })
    const anonymous = stateCookie()
    const { tokens } = await logIn(browser, op, notes)
    const signedIn = stateCookie()
    await browser.open(logoutUrl(op, { id_token_hint: tokens.id_token }))
    const signedOut = stateCookie()
    expect(new Set([anonymous, signedIn, signedOut]).size).toBe(3)
    expect([anonymous[0], signedIn[0], signedOut[0]]).toEqual(['n', 'a', 'n'])
  })

  it('changes when another user signs in [SM-3.2-g]', async () => {
    await logIn(browser, op, notes, { login_hint: 'ada' })
    const ada = stateCookie()
    await logIn(browser, op, notes, { login_hint: 'bob', prompt: 'login' })
    expect(stateCookie()).not.toBe(ada)
  })

  it('changes when the same user signs in again after a logout [SM-3.2-g]', async () => {
    const { tokens } = await logIn(browser, op, notes)
    const first = stateCookie()
    await browser.open(logoutUrl(op, { id_token_hint: tokens.id_token }))
    await logIn(browser, op, notes)
    expect(stateCookie()).not.toBe(first)
  })

  it('stays through silent checks and a second RP [SM-3.2-h]', async () => {
    await logIn(browser, op, notes)
    const first = stateCookie()
    await authorize(browser, op, notes, { prompt: 'none' })
    await logIn(browser, op, mail)
    await authorize(browser, op, mail, { prompt: 'none' })
    expect(stateCookie()).toBe(first)
  })

  it('stays when the same user signs in once more [SM-3.2-h]', async () => {
    await logIn(browser, op, notes)
    const first = stateCookie()
    await logIn(browser, op, notes, { prompt: 'login' })
    expect(stateCookie()).toBe(first)
  })

  it('stays while nobody is signed in and RPs ask [SM-3.2-h]', async () => {
    await authorize(browser, op, notes, { prompt: 'none' })
    const first = stateCookie()
    await authorize(browser, op, mail, { prompt: 'none' })
    expect(stateCookie()).toBe(first)
  })

  it('differs between two browsers of one user [SM-3.2-l]', async () => {
    await logIn(browser, op, notes)
    const first = stateCookie()
    await browser.close()
    browser = createUserAgent()
    await logIn(browser, op, notes)
    expect(stateCookie()).not.toBe(first)
  })

  it('lives in a readable cookie of the whole host that goes cross-site, beside an OP cookie that scripts cannot read [SM-3.2-l] [T21]', async () => {
    const answer = await fetch(authorizationUrl(op, notes, { prompt: 'none' }), { redirect: 'manual' })
    const [line = '', ...more] = answer.headers.getSetCookie().filter((cookie) => cookie.startsWith('__Host-op_state.'))
    expect(more).toEqual([])
    const attributes = line.toLowerCase().split('; ').slice(1)
    expect(attributes).toEqual(expect.arrayContaining(['path=/', 'samesite=none', 'secure']))
    expect(attributes).not.toContain('httponly')
    expect(attributes.some((attribute) => attribute.startsWith('domain'))).toBe(false)
    expect(attributes.some((attribute) => attribute.startsWith('expires='))).toBe(true)

    await logIn(browser, op, notes)
    const cookies = browser.cookies(op.issuer)
    const opCookies = cookies.filter(({ name }) => name.startsWith('__Host-op_session.'))
    expect(opCookies.map(({ name }) => name.endsWith('.sig'))).toEqual([false, true])
    for (const cookie of opCookies) expect(cookie).toMatchObject({ httpOnly: true, sameSite: 'none', path: '/' })
  })

  it('tells nothing of the user or of the OP session [SM-3.2-l]', async () => {
    await logIn(browser, op, notes)
    const {
      sessions: [session],
    } = await op.provider.opSessions.list({ accountId: 'ada' })
    const value = stateCookie()
    expect(value).toMatch(/^a\.[\w-]{43}$/)
    for (const secret of [
      session?.uid ?? '',
      'ada',
      browser.cookies(op.issuer).find(({ name }) => name.includes('session'))?.value ?? '',
    ]) {
      expect(value).not.toContain(secret)
      for (const algorithm of ['sha256', 'sha512']) {
        expect(value.slice(2)).not.toBe(createHash(algorithm).update(secret).digest('base64url').slice(0, 43))
      }
    }
  })

  it('is never set inside a cross-site frame, where it would land in a partitioned jar [browsers 3]', async () => {
    const page = await browser.frame(rps.origin('notes'), authorizationUrl(op, notes, { prompt: 'none' }))
    expect(answerOn(page).params.get('error')).toBe('login_required')
    expect(answerOn(page).params.get('session_state')).toMatch(/^[\w-]{43}\./)
    expect(browser.cookies(op.issuer).filter(({ name }) => name.startsWith('__Host-op_state.'))).toEqual([])
  })

  it('in a frame is answered from the cookie that is there [SM-3.2-h]', async () => {
    await logIn(browser, op, notes)
    const before = stateCookie()
    const { params } = answerOn(
      await browser.frame(rps.origin('notes'), authorizationUrl(op, notes, { prompt: 'none' })),
    )
    expect(stateCookie()).toBe(before)
    const state = params.get('session_state') ?? ''
    expect(state).toBe(recompute(state, 'notes', rps.origin('notes')))
  })
})

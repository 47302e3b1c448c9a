import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { frontchannelLogoutUrl } from '../../src/op/frontchannel.ts'
import { isSignedIn, logIn, logoutUrl, type Tokens } from '../support/op-flow.ts'
import { type RpSite, startRpSite } from '../support/rp-site.ts'
import { startTestOp, type TestOp } from '../support/test-op.ts'
import { createUserAgent, type Page, type UserAgent } from '../support/user-agent.ts'

let rps: RpSite
let op: TestOp
let browser: UserAgent
let tokens: Tokens
let clockAhead = 0
const client = (app: string) => clients.find(({ client_id }) => client_id === app) ?? rps.client(app)
let clients: ReturnType<RpSite['client']>[]

beforeAll(async () => {
  rps = await startRpSite()
  const framed = (app: string, query = '') =>
    rps.client(app, {
      backchannel_logout_uri: undefined,
      frontchannel_logout_uri: `${rps.origin(app)}/front${query}`,
      frontchannel_logout_session_required: true,
    })
  clients = [
    framed('notes', '?tenant=7'),
    framed('board'),
    framed('never'),
    rps.client('mail'),
    rps.client('both', { frontchannel_logout_uri: `${rps.origin('both')}/front` }),
  ]
  const now = () => Date.now() + clockAhead
  op = await startTestOp({ clients, options: { runtime: { now } } })
})
afterAll(async () => {
  await op.close()
  await rps.close()
})
beforeEach(async () => {
  clockAhead = 0
  browser = createUserAgent()
  tokens = (await logIn(browser, op, client('notes'))).tokens
  for (const app of ['board', 'mail', 'both']) await logIn(browser, op, client(app))
})
afterEach(() => browser.close())

const sidOf = (jwt: string): string => JSON.parse(Buffer.from(jwt.split('.')[1] ?? '', 'base64url').toString()).sid
const bye = () => `${rps.origin('notes')}/bye`
const logOut = (more: Record<string, string> = {}): Promise<Page> =>
  browser.open(
    logoutUrl(op, { id_token_hint: tokens.id_token, post_logout_redirect_uri: bye(), state: "s '&1", ...more }),
  )

function framesOn(page: Page): URL[] {
  return [...page.body.matchAll(/<iframe src="([^"]*)"/g)].map(([, src = '']) => new URL(src.replaceAll('&amp;', '&')))
}

/** Where a page leads by itself, and after how many seconds. */
function refreshOf(page: Page): { after: number; to: string } {
  const [, after, to = ''] = /http-equiv="refresh" content="(\d+);url=([^"]*)"/.exec(page.body) ?? []
  return { after: Number(after), to: to.replaceAll('&amp;', '&').replaceAll('&#39;', "'") }
}

function directive(page: Page, name: string): string | undefined {
  const policy = page.header('content-security-policy')?.split('; ') ?? []
  return policy.find((each) => each.startsWith(`${name} `))?.slice(name.length + 1)
}

describe('the URL of a frame', () => {
  const sid = 'a b+c&d=e#f%g/"é'
  it.each([
    ['https://rp.example/out', 'https://rp.example/out?'],
    ['https://rp.example/out?', 'https://rp.example/out?'],
    ['https://rp.example/out?a=1', 'https://rp.example/out?a=1&'],
    ['https://rp.example/out?a=1&', 'https://rp.example/out?a=1&'],
  ])('keeps what was registered and adds iss and sid, percent-encoded: %s [FCL-2-b] [FCL-2-e] [FCL-3-c]', (uri, start) => {
    const url = frontchannelLogoutUrl({ uri, sid }, 'https://op.example/a?b')
    expect(url.startsWith(start)).toBe(true)
    const { searchParams } = new URL(url)
    expect(searchParams.getAll('iss')).toEqual(['https://op.example/a?b'])
    expect(searchParams.getAll('sid')).toEqual([sid])
  })
})

describe('after a logout, the page with frames', () => {
  it('frames exactly the RPs of this OP session that can be told in no other way [FCL-2-c] [FCL-3-a]', async () => {
    const page = await logOut()
    const frames = framesOn(page)
    expect(frames.map(({ hostname }) => hostname.split('.')[0]).sort()).toEqual(['board', 'notes'])
    const notes = frames.find(({ hostname }) => hostname.startsWith('notes.'))
    expect(Object.fromEntries(notes?.searchParams ?? [])).toEqual({
      tenant: '7',
      iss: op.issuer,
      sid: sidOf(tokens.id_token),
    })
  })

  it('tells each RP its own sid, with iss [FCL-2-e]', async () => {
    const board = (await logIn(browser, op, client('board'))).tokens
    const frames = framesOn(await logOut())
    const told = frames.map(({ host, searchParams }) => [`http://${host}`, searchParams.get('sid')])
    expect(Object.fromEntries(told)).toEqual({
      [rps.origin('notes')]: sidOf(tokens.id_token),
      [rps.origin('board')]: sidOf(board.id_token),
    })
    expect(sidOf(board.id_token)).not.toBe(sidOf(tokens.id_token))
    for (const { searchParams } of frames) expect(searchParams.get('iss')).toBe(op.issuer)
  })

  it('lists just their origins in frame-src, and is not framed itself [T15]', async () => {
    const page = await logOut()
    expect(directive(page, 'frame-src')?.split(' ').sort()).toEqual([rps.origin('board'), rps.origin('notes')])
    expect(directive(page, 'frame-ancestors')).toBe("'none'")
    expect(directive(page, 'default-src')).toBe("'none'")
    expect(page.header('cache-control')).toBe('no-store')
  })

  it('gives frames no permissions, no way out and no referrer [T15]', async () => {
    const page = await logOut()
    const tags = page.body.match(/<iframe [^>]*>/g) ?? []
    expect(tags).toHaveLength(2)
    for (const tag of tags) {
      expect(tag).toContain('sandbox="allow-scripts allow-same-origin"')
      expect(tag).toContain('allow=""')
      expect(tag).toContain('referrerpolicy="no-referrer"')
    }
    expect(page.header('referrer-policy')).toBe('no-referrer')
  })

  it('leads on to the app after three seconds, without JavaScript, with state byte for byte [RPI-2-i] [RPI-3-d]', async () => {
    const { after, to } = refreshOf(await logOut())
    expect(after).toBe(3)
    expect(to.startsWith(`${bye()}?`)).toBe(true)
    expect([...new URL(to).searchParams]).toEqual([['state', "s '&1"]])
  })

  it('leads to the signed-out page when no app asked [FCL-4.1-a]', async () => {
    const asked = await browser.open(logoutUrl(op))
    const page = await browser.submit(asked, { answer: 'yes' })
    expect(framesOn(page)).toHaveLength(2)
    const { to } = refreshOf(page)
    const signedOut = await browser.click(page, to)
    expect(signedOut.url).toBe(`${op.issuer}/session/end/signed-out`)
    expect(signedOut.body).toContain('Browser did not let us check')
    expect(signedOut.body).toContain('and of 2 of 4 apps')
  })

  it('shows each app, and never says of a framed one that it is signed out [FCL-4.1-a]', async () => {
    const page = await logOut()
    for (const app of ['Notes', 'Board', 'Mail', 'Both']) expect(page.body).toContain(`<span>${app}</span>`)
    expect(page.body).not.toContain('<span>Never</span>')
    expect(page.body.match(/Telling \.\.\./g)).toHaveLength(2)
  })

  it('says when an app that was told otherwise and failed is tried again', async () => {
    rps.answer('mail', (response) => response.writeHead(503).end())
    const { body } = await logOut()
    rps.answer('mail', (response) => response.end())
    expect(body).toMatch(/<span>Mail<\/span>.*?(Next try in \d{1,2} s|Telling)/)
    expect(body).not.toMatch(/\d{3} (s|min)/)
  })

  it('opens for a minute, only as it was made, and to nobody who makes one up', async () => {
    const { url } = await logOut()
    expect(framesOn(await browser.open(url))).toHaveLength(2)
    clockAhead = 61_000 // the clock of another node
    expect((await browser.open(url)).url).toBe(url)
    clockAhead = 121_000 // too late for frames, and not for where the app wants its user
    expect((await browser.open(url)).url).toContain(bye())
    clockAhead = 0
    for (const request of ['', 'x', 'a.b.c.d.e']) {
      const page = await browser.open(`${op.issuer}/session/end/apps?request=${request}`)
      expect(page.url).toBe(`${op.issuer}/session/end/signed-out`)
    }
  })

  it('comes once: a second logout of the same browser has nobody to tell [RPI-4-b]', async () => {
    await logOut()
    expect((await logOut()).url).toContain(bye())
  })

  it('is not shown when the user says no [E11]', async () => {
    const page = await browser.submit(await browser.open(logoutUrl(op)), { answer: 'no' })
    expect(framesOn(page)).toEqual([])
    expect(await isSignedIn(browser, op, client('notes'))).toBe(true)
  })
})

describe('a Logout Token', () => {
  it('and no frame goes to an RP that can hear both ways [FCL-2-c] [BCL-2.3-a]', async () => {
    const before = rps.logouts.length
    await logOut()
    const told = (await rps.received(before + 2)).slice(before).map(({ app }) => app)
    expect(told.sort()).toEqual(['both', 'mail'])
  })
})

describe('when another user signs in in the same browser', () => {
  it('the apps of the one before are framed, and the login goes on from there [SM-3.2-g] [FCL-2-c]', async () => {
    const before = rps.log.length
    const page = await browser.open(
      `${op.issuer}/auth?${new URLSearchParams({
        client_id: 'notes',
        response_type: 'code',
        scope: 'openid',
        redirect_uri: `${rps.origin('notes')}/cb`,
        login_hint: 'bob',
        prompt: 'login',
      })}`,
    )
    expect(
      framesOn(page)
        .map(({ hostname }) => hostname.split('.')[0])
        .sort(),
    ).toEqual(['board', 'notes'])
    const { to } = refreshOf(page)
    expect(to).toMatch(new RegExp(`^${op.issuer}/auth/`))
    expect(rps.log.slice(before).filter((line) => line.startsWith('GET'))).toEqual([])
    const back = await browser.click(page, to)
    expect(new URL(back.url).searchParams.get('code')).toMatch(/./)
    expect((await op.provider.opSessions.list({ accountId: 'bob' })).sessions).toHaveLength(1)
  })
})

describe('the receipt of a logout with frames', () => {
  const statesOf = async (logoutId: string | undefined) => {
    const receipt = await op.provider.receipts.get(logoutId ?? '')
    return Object.fromEntries(
      receipt?.apps.filter(({ mechanism }) => mechanism === 'frontchannel').map(({ app, state }) => [app, state]) ?? [],
    )
  }

  it('says unknown of what a browser was shown, and is the same as JSON for the browser [FCL-4.1-a] [T14]', async () => {
    await logOut()
    const answer = await browser.fetch(op.issuer, `${op.issuer}/session/end/signed-out`, {
      headers: { accept: 'application/json' },
    })
    const { apps } = JSON.parse(answer.body) as { apps: { app: string; mechanism: string; state: string }[] }
    expect(apps.map(({ app, mechanism, state }) => [app, mechanism, state])).toEqual([
      ['Board', 'frontchannel', 'unknown'],
      ['Both', 'backchannel', 'delivered'],
      ['Mail', 'backchannel', 'delivered'],
      ['Notes', 'frontchannel', 'unknown'],
    ])
  })

  it('says dead when no browser was there to show anything: an administrator ended it', async () => {
    const [session] = (await op.provider.opSessions.list({ accountId: 'ada' })).sessions
    const logoutId = await op.provider.opSessions.end(session?.uid ?? '')
    expect(await statesOf(logoutId)).toEqual({ Notes: 'dead', Board: 'dead' })
  })

  it('says due until the browser has loaded the page, and dead when it never did', async () => {
    const [session] = (await op.provider.opSessions.list({ accountId: 'ada' })).sessions
    const logoutId = await op.provider.opSessions.end(session?.uid ?? '', { cause: 'op_logout' })
    expect(await statesOf(logoutId)).toEqual({ Notes: 'due', Board: 'due' })
    clockAhead = 600_000
    expect(await statesOf(logoutId)).toEqual({ Notes: 'dead', Board: 'dead' })
  })
})

describe('the discovery document', () => {
  it('says that front-channel logout is supported, with sid [FCL-3-b]', async () => {
    const response = await fetch(`${op.issuer}/.well-known/openid-configuration`)
    expect(await response.json()).toMatchObject({
      frontchannel_logout_supported: true,
      frontchannel_logout_session_supported: true,
    })
  })
})

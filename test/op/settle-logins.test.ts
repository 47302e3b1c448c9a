import type { Configuration } from 'oidc-provider'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { OpLogEvent, OpStore } from '../../src/op.ts'
import { sqliteStore } from '../../src/op-sqlite.ts'
import { authorizationUrl, authorize, isSignedIn, logIn, logoutUrl } from '../support/op-flow.ts'
import { type RpSite, startRpSite } from '../support/rp-site.ts'
import { startTestOp, type TestOp } from '../support/test-op.ts'
import { createUserAgent, type UserAgent } from '../support/user-agent.ts'

/*
 * A login looks after what was begun in the same browser beside it. It does so after oidc-provider has answered, and so
 * outside its error handler.
 */

let rps: RpSite
let op: TestOp
let browser: UserAgent
let storeFails = false
let notesFail = false
const events: OpLogEvent[] = []
const opened: { close(): Promise<unknown> }[] = []

/** A real store that can be told to fail where OP sessions that another user began are ended, or where those of one user are kept together. */
function failing(inner: OpStore): OpStore {
  return {
    forIssuer(issuer, runtime) {
      const opened = inner.forIssuer(issuer, runtime)
      return {
        ...opened,
        async endOpSession(uid, ending, plan) {
          if (storeFails && ending.cause === 'user_switch') throw new Error('the disk of op.db is full')
          return opened.endOpSession(uid, ending, plan)
        },
        async putModel(model) {
          if (notesFail && model.kind === 'LoginsTogether') throw new Error('the disk of op.db is full')
          return opened.putModel(model)
        },
      }
    },
    close: () => inner.close(),
  }
}

async function start({ renderError }: Pick<Configuration, 'renderError'> = {}) {
  const framed = {
    backchannel_logout_uri: undefined,
    frontchannel_logout_uri: `${rps.origin('framed')}/front`,
    frontchannel_logout_session_required: true,
  }
  const store = failing(sqliteStore(':memory:'))
  op = await startTestOp({
    clients: [rps.client('notes'), rps.client('mail'), rps.client('framed', framed)],
    store,
    configuration: { renderError }, // undefined: oidc-provider's default, so ours
    options: { log: (event) => events.push(event) },
  })
  opened.push(store, op)
}

/** Ada has signed in at this app in this browser, and its OP cookie is gone since: another tab's came after it. */
async function adaBesideIt(app: string): Promise<void> {
  const tab = createUserAgent()
  opened.push(tab)
  await logIn(tab, op, rps.client(app))
  for (const { name, value } of tab.cookies(op.issuer)) {
    if (name.startsWith('__Host-op_login.')) {
      browser.setCookie(op.issuer, `${name}=${value}; Path=/; Secure; SameSite=None; HttpOnly`)
    }
  }
}

const asBob = { login_hint: 'bob' }
const left = async (accountId: string) => (await op.provider.opSessions.list({ accountId })).sessions.length

beforeEach(async () => {
  storeFails = false
  notesFail = false
  events.length = 0
  rps = await startRpSite()
  browser = createUserAgent()
  opened.push(rps, browser)
})
afterEach(async () => {
  for (const each of opened.splice(0).toReversed()) await each.close()
})

describe('when the store fails as a login ends what another user began in the same browser', () => {
  it('the user sees an error page of the OP, and the app gets no code [design §4] [T5]', async () => {
    await start()
    await adaBesideIt('mail')
    storeFails = true
    const page = await browser.open(authorizationUrl(op, rps.client('notes'), asBob))
    expect(page.url.startsWith(op.issuer)).toBe(true)
    expect(page.status).toBe(500)
    expect(page.body).toContain('<h1>Something failed on our side</h1>')
    expect(page.body).not.toMatch(/disk|code=/)
    expect(page.header('content-security-policy')).toContain("frame-ancestors 'none'")
    expect(page.header('cache-control')).toBe('no-store')
    expect(page.header('location')).toBeUndefined()
  })

  it('the operator hears of it', async () => {
    await start()
    await adaBesideIt('mail')
    storeFails = true
    await browser.open(authorizationUrl(op, rps.client('notes'), asBob))
    const message = 'the disk of op.db is full'
    expect(events).toContainEqual({ event: 'op_failed', task: 'settle_logins', message })
    expect(op.failures.map((error) => error.message)).toEqual([message])
  })

  it('the page is the operator’s, where there is one; where that fails too it is ours', async () => {
    await start({
      renderError: (ctx, out) => {
        ctx.type = 'html'
        ctx.body = `<p>Sorry: ${out.error}`
      },
    })
    await adaBesideIt('mail')
    storeFails = true
    const theirs = await browser.open(authorizationUrl(op, rps.client('notes'), asBob))
    expect([theirs.status, theirs.body]).toEqual([500, '<p>Sorry: server_error'])

    await start({
      renderError: () => {
        throw new Error('no template')
      },
    })
    await adaBesideIt('mail')
    const ours = await browser.open(authorizationUrl(op, rps.client('notes'), asBob))
    expect([ours.status, ours.body]).toEqual([500, expect.stringContaining('Something failed on our side')])
    expect(op.failures.map((error) => error.message)).toContain('no template')
  })

  it('what was begun there is ended when the new user goes on', async () => {
    await start()
    await adaBesideIt('mail')
    storeFails = true
    await browser.open(authorizationUrl(op, rps.client('notes'), asBob))
    storeFails = false
    await authorize(browser, op, rps.client('notes'), asBob) // he is signed in already, so this is no login
    expect([await left('ada'), await left('bob')]).toEqual([0, 1])
  })

  it('what was begun there is ended by the next logout all the same', async () => {
    await start()
    await adaBesideIt('mail')
    storeFails = true
    await browser.open(authorizationUrl(op, rps.client('notes'), asBob))
    expect(await left('ada')).toBe(1)
    storeFails = false
    await browser.submit(await browser.open(logoutUrl(op)), { answer: 'yes' }, '/ask')
    expect([await left('ada'), await left('bob')]).toEqual([0, 0])
  })
})

describe('when the store fails to note what one user began together', () => {
  it.each(['none', undefined])('the app gets its code all the same, the operator hears: prompt=%s', async (prompt) => {
    await start()
    await logIn(browser, op, rps.client('notes'))
    await adaBesideIt('mail')
    notesFail = true
    const asked = prompt === undefined ? {} : { prompt }
    const { params } = await authorize(browser, op, rps.client('notes'), asked)
    expect(params.get('code')).toMatch(/./)
    expect(events).toContainEqual({ event: 'op_failed', task: 'keep_together', message: 'the disk of op.db is full' })
    expect(op.failures).toEqual([])
  })

  it('the next request notes it', async () => {
    await start()
    await logIn(browser, op, rps.client('notes'))
    await adaBesideIt('mail')
    notesFail = true
    await authorize(browser, op, rps.client('notes'))
    notesFail = false
    await authorize(browser, op, rps.client('notes'))
    const [session] = (await op.provider.opSessions.list({ accountId: 'ada' })).sessions
    await op.provider.opSessions.end(session?.uid ?? '')
    expect(await left('ada')).toBe(0)
  })
})

it('what another user began beside it is shown in frames, where his apps can only be told there [FCL-3-a]', async () => {
  await start()
  await adaBesideIt('framed')
  const page = await browser.open(authorizationUrl(op, rps.client('notes'), asBob))
  expect(new URL(page.url).pathname).toBe('/session/end/apps')
  expect(page.body).toContain(`<iframe src="${rps.origin('framed')}/front?iss=`)
  const [, next = ''] = /http-equiv="refresh" content="\d+;url=([^"]*)"/.exec(page.body) ?? []
  expect(next).toContain(`${rps.origin('notes')}/`)
  expect(new URL(next.replaceAll('&amp;', '&')).searchParams.get('code')).toMatch(/./)
  expect(await left('ada')).toBe(0)
  expect(await isSignedIn(browser, op, rps.client('notes'))).toBe(true)
})

import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { OpIssuerStore } from '../../../src/op.ts'
import { world } from '../../../src/runtime/runtime.ts'
import { type FailingStore, failingPostgres, failingSqlite } from '../../support/failing-store.ts'
import { expectErrorPage } from '../../support/logout-pages.ts'
import { authorizationUrl, claimsOf, isSignedIn, logIn, logoutUrl, redeem } from '../../support/op-flow.ts'
import { hasPostgres } from '../../support/postgres.ts'
import { type RpSite, startRpSite } from '../../support/rp-site.ts'
import { startTestOp, type TestOp } from '../../support/test-op.ts'
import { createUserAgent, type UserAgent } from '../../support/user-agent.ts'
import { withLeases } from '../../support/with-leases.ts'

/* Each statement of a logout, and of a login, fails once, in a whole OP that a browser uses: all of it happens, or nothing. */

/** More than any request here takes: the tests end when one passes without a failure. */
const most = 200

const stores: readonly (readonly [string, boolean, () => Promise<FailingStore>])[] = [
  ['sqlite', true, failingSqlite],
  ['postgres that refuses a statement', hasPostgres, () => failingPostgres('refused')],
  ['postgres whose connection breaks', hasPostgres, () => failingPostgres('cut')],
]

describe.each(stores)('when each statement in its turn fails: %s', (_name, isThere, openStore) => {
  let failing: FailingStore
  let rps: RpSite
  let op: TestOp
  let store: OpIssuerStore
  const opened: { close(): Promise<unknown> }[] = []

  beforeEach(async () => {
    if (!isThere) return
    failing = await openStore()
    rps = await startRpSite()
    const apps = ['notes', 'mail', ...Array.from({ length: most }, (_, n) => `app-${n}`)]
    op = await startTestOp({ clients: apps.map((app) => rps.client(app)), store: withLeases(failing.store, 300) })
    store = failing.store.forIssuer(op.issuer, world)
    opened.push(failing, rps, op)
  })
  afterEach(async () => {
    failing?.heal()
    for (const each of opened.splice(0).reverse()) await each.close()
  })

  function newBrowser(): UserAgent {
    const browser = createUserAgent()
    opened.push(browser)
    return browser
  }

  /** The `sid`s that each RP knows this browser by. */
  async function logInTwice(browser: UserAgent): Promise<{ hint: string; sids: Map<string, unknown> }> {
    const sids = new Map<string, unknown>()
    let hint = ''
    for (const app of ['notes', 'mail']) {
      hint = (await logIn(browser, op, rps.client(app))).tokens.id_token
      sids.set(app, claimsOf(hint).sid)
    }
    return { hint, sids }
  }

  it.runIf(isThere)(
    'a logout ends all and tells all, or the user sees an error and is signed in [design §4] [BCL-2.7-a]',
    async () => {
      let browser = newBrowser()
      let login = await logInTwice(browser)
      let [refused, done] = [0, 0]
      for (let nth = 1; ; nth++) {
        expect(nth).toBeLessThan(most)
        const told = rps.logouts.length
        failing.failAt(nth)
        const page = await browser.open(logoutUrl(op, { id_token_hint: login.hint }))
        const hasFailed = failing.heal()
        if (page.status >= 500) {
          refused += 1
          if (!page.url.endsWith('/signed-out')) {
            expectErrorPage(page, op, 500)
            expect([nth, await isSignedIn(browser, op, rps.client('mail'))]).toEqual([nth, true])
            expect([nth, await store.nextDueAt(), rps.logouts.length]).toEqual([nth, undefined, told])
            continue
          }
        }
        done += 1
        const sids = () => new Map(rps.logouts.slice(told).map(({ app, token }) => [app, claimsOf(token).sid]))
        await expect.poll(sids, { timeout: 30_000 }).toEqual(login.sids)
        expect([nth, await isSignedIn(browser, op, rps.client('mail'))]).toEqual([nth, false])
        if (!hasFailed) break
        await expect.poll(() => store.nextDueAt(), { timeout: 30_000 }).toBeUndefined()
        browser = newBrowser()
        login = await logInTwice(browser)
      }
      expect([refused > 5, done > 0]).toEqual([true, true])
    },
  )

  it.runIf(isThere)('a login is recorded before its code leaves, or no code leaves [BCL-2.3-a]', async () => {
    const browser = newBrowser()
    const { sids } = await logInTwice(browser)
    let refused = 0
    for (let nth = 1; ; nth++) {
      expect(nth).toBeLessThan(most)
      const app = rps.client(`app-${nth}`)
      failing.failAt(nth)
      const page = await browser.open(authorizationUrl(op, app))
      const hasFailed = failing.heal()
      let code = new URL(page.url).searchParams.get('code')
      if (code === null) {
        refused += 1
        expect([nth, page.status >= 500 || new URL(page.url).searchParams.get('error')]).not.toEqual([nth, null])
        code = new URL((await browser.open(authorizationUrl(op, app))).url).searchParams.get('code')
      }
      sids.set(app.client_id, claimsOf((await redeem(op, app, code ?? '')).id_token).sid)
      const [session] = (await op.provider.opSessions.list({ accountId: 'ada' })).sessions
      const recorded = session?.clients.find(({ clientId }) => clientId === app.client_id)
      expect([nth, recorded?.sid]).toEqual([nth, sids.get(app.client_id)])
      if (!hasFailed) break
    }
    expect(refused).toBeGreaterThan(5)
    const hint = (await logIn(browser, op, rps.client('notes'))).tokens.id_token
    await browser.open(logoutUrl(op, { id_token_hint: hint }))
    const logouts = await rps.received(sids.size)
    expect(new Map(logouts.map(({ app, token }) => [app, claimsOf(token).sid]))).toEqual(sids)
  })

  it.runIf(isThere)('a first login signs in and is recorded, or the user sees an error [BCL-2.3-a]', async () => {
    let refused = 0
    for (let nth = 1; ; nth++) {
      expect(nth).toBeLessThan(most)
      const browser = newBrowser()
      const app = rps.client(`app-${nth}`)
      failing.failAt(nth)
      const page = await browser.open(authorizationUrl(op, app, { login_hint: `user ${nth}` }))
      const hasFailed = failing.heal()
      const code = new URL(page.url).searchParams.get('code')
      const [session] = (await op.provider.opSessions.list({ accountId: `user ${nth}` })).sessions
      if (code === null) {
        refused += 1
        expect([nth, page.status >= 500]).toEqual([nth, true])
      } else {
        const { sid } = claimsOf((await redeem(op, app, code)).id_token)
        expect(session?.clients).toMatchObject([{ clientId: app.client_id, sid }])
      }
      if (!hasFailed) break
    }
    expect(refused).toBeGreaterThan(5)
  })
})

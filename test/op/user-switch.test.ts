import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { OpStore } from '../../src/op.ts'
import { sqliteStore } from '../../src/op-sqlite.ts'
import { authorizationUrl, authorize, claimsOf, isSignedIn, logIn } from '../support/op-flow.ts'
import { type RpSite, startRpSite } from '../support/rp-site.ts'
import { startTestOp, type TestOp } from '../support/test-op.ts'
import { createUserAgent, type UserAgent } from '../support/user-agent.ts'

let rps: RpSite
let op: TestOp
let browser: UserAgent
let notes: ReturnType<RpSite['client']>
let mail: ReturnType<RpSite['client']>
let store: OpStore
let storeFails = false
const causes: string[] = []

/** A real store that can be told to fail when an OP session ends, and that remembers why they ended. */
function watched(inner: OpStore): OpStore {
  return {
    forIssuer(issuer, runtime) {
      const issuerStore = inner.forIssuer(issuer, runtime)
      return {
        ...issuerStore,
        async endOpSession(uid, ending, plan) {
          if (storeFails) throw new Error('the disk is full')
          causes.push(ending.cause)
          return issuerStore.endOpSession(uid, ending, plan)
        },
      }
    },
    close: () => inner.close(),
  }
}

beforeEach(async () => {
  storeFails = false
  causes.length = 0
  rps = await startRpSite()
  browser = createUserAgent()
  notes = rps.client('notes')
  mail = rps.client('mail')
  store = watched(sqliteStore(':memory:'))
  op = await startTestOp({ clients: [notes, mail], store })
})
afterEach(async () => {
  await op.close()
  await store.close()
  await browser.close()
  await rps.close()
})

const asBob = { login_hint: 'bob', prompt: 'login' }
const uidsOf = async (accountId: string) =>
  (await op.provider.opSessions.list({ accountId })).sessions.map(({ uid }) => uid)

describe('when another user signs in in the same browser', () => {
  it('the old OP session ends for that cause and its RPs are told, by its sids [SM-3.2-g]', async () => {
    const ada = await logIn(browser, op, notes)
    await logIn(browser, op, mail)
    const bob = await logIn(browser, op, notes, asBob)

    const told = new Map((await rps.received(2)).map(({ app, token }) => [app, claimsOf(token)]))
    expect([...told.keys()].sort()).toEqual(['mail', 'notes'])
    expect(told.get('notes')).toMatchObject({ sub: 'ada', sid: claimsOf(ada.tokens.id_token).sid })
    expect(causes).toEqual(['user_switch'])
    expect(claimsOf(bob.tokens.id_token).sub).toBe('bob')
    expect(claimsOf(bob.tokens.id_token).sid).not.toBe(claimsOf(ada.tokens.id_token).sid)
  })

  it('his login goes on, in an OP session of its own [design §4]', async () => {
    await logIn(browser, op, notes)
    const [adas] = await uidsOf('ada')
    await logIn(browser, op, notes, asBob)
    expect(await uidsOf('ada')).toEqual([])
    const bobs = await uidsOf('bob')
    expect(bobs).toHaveLength(1)
    expect(bobs[0]).not.toBe(adas)
    expect(await isSignedIn(browser, op, notes)).toBe(true)
  })

  it('the tokens of the old user are dead, those of the new one are not [BCL-2.7-c]', async () => {
    const ada = await logIn(browser, op, notes)
    const bob = await logIn(browser, op, notes, asBob)
    const userinfo = async (token: string) => {
      const response = await fetch(`${op.issuer}/me`, { headers: { authorization: `Bearer ${token}` } })
      return response.status
    }
    expect(await userinfo(ada.tokens.access_token)).toBe(401)
    expect(await userinfo(bob.tokens.access_token)).toBe(200)
  })

  it('the old user’s sessions in other browsers stay [BCL-2.3-a]', async () => {
    const other = createUserAgent()
    await logIn(other, op, notes)
    await logIn(browser, op, notes)
    await logIn(browser, op, notes, asBob)
    expect(await isSignedIn(other, op, notes)).toBe(true)
    await other.close()
  })

  it('and back again, each time the RPs of the one before are told', async () => {
    for (const user of ['ada', 'bob', 'ada', 'bob']) {
      await logIn(browser, op, notes, { login_hint: user, prompt: 'login' })
    }
    expect((await rps.received(3)).map(({ token }) => claimsOf(token).sub)).toEqual(['ada', 'bob', 'ada'])
  })

  it('and the store fails, the old user is still signed in and nobody is told [design §4]', async () => {
    const ada = await logIn(browser, op, notes)
    storeFails = true
    const page = await browser.open(authorizationUrl(op, notes, asBob))
    expect(page.status).toBe(500)
    expect(page.body).not.toContain('disk')
    storeFails = false
    const userinfo = await fetch(`${op.issuer}/me`, {
      headers: { authorization: `Bearer ${ada.tokens.access_token}` },
    })
    expect(userinfo.status).toBe(200)
    expect(await uidsOf('bob')).toEqual([])
    expect(await uidsOf('ada')).toHaveLength(1)
    const { code } = await authorize(browser, op, notes, { prompt: 'none' })
    expect(code).toMatch(/./)
    expect(rps.logouts).toEqual([])
  })

  it('the same user once more is no switch [SM-3.2-h]', async () => {
    await logIn(browser, op, notes)
    await logIn(browser, op, notes, { prompt: 'login' })
    expect(causes).toEqual([])
  })
})

import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { EndCause, OpIssuerStore, OpStore } from '../../src/op.ts'
import { sqliteStore } from '../../src/op-sqlite.ts'
import { askForTokens, authorize, claimsOf, isSignedIn, logIn, redeem } from '../support/op-flow.ts'
import { type RpSite, startRpSite } from '../support/rp-site.ts'
import { startTestOp, type TestOp, type TestOpParts } from '../support/test-op.ts'
import { createUserAgent, type UserAgent } from '../support/user-agent.ts'

let rps: RpSite
let first: UserAgent
let second: UserAgent
let notes: ReturnType<RpSite['client']>
let mail: ReturnType<RpSite['client']>
const opened: { close(): Promise<unknown> }[] = []

beforeEach(async () => {
  rps = await startRpSite()
  notes = rps.client('notes')
  mail = rps.client('mail')
  first = createUserAgent()
  second = createUserAgent()
  opened.push(rps, first, second)
})
afterEach(async () => {
  for (const each of opened.splice(0).reverse()) await each.close()
})

async function start(parts: Partial<TestOpParts> = {}): Promise<TestOp> {
  const op = await startTestOp({ clients: [notes, mail], ...parts })
  opened.push(op)
  return op
}

const uidsOf = async (op: TestOp, accountId: string) =>
  (await op.provider.opSessions.list({ accountId })).sessions.map(({ uid }) => uid)
const offline = { scope: 'openid offline_access', prompt: 'consent' }
const refresh = (op: TestOp, refreshToken: string | undefined) =>
  askForTokens(op, notes, { grant_type: 'refresh_token', refresh_token: refreshToken ?? '' })
const userinfo = async (op: TestOp, token: string) =>
  (await fetch(`${op.issuer}/me`, { headers: { authorization: `Bearer ${token}` } })).status

async function done(op: TestOp, id: string): Promise<void> {
  while ((await op.provider.opSessions.jobs.get(id))?.state !== 'done') await new Promise(setImmediate)
}

describe('the end of all OP sessions of an account', () => {
  it('signs all its browsers out at once and tells each RP by its own sid [T2]', async () => {
    const op = await start()
    const atFirst = await logIn(first, op, notes)
    const atSecond = await logIn(second, op, mail)
    const bob = createUserAgent()
    opened.push(bob)
    await logIn(bob, op, notes, { login_hint: 'bob' })

    expect(await op.provider.opSessions.endAll({ accountId: 'ada' }, { dryRun: true })).toBe(2)
    expect(await isSignedIn(first, op, notes)).toBe(true)
    const job = await op.provider.opSessions.endAll({ accountId: 'ada' }, { cause: 'password_change' })
    expect(job).toMatchObject({ scope: { accountId: 'ada' }, cause: 'password_change', total: 2 })
    expect(await isSignedIn(first, op, notes)).toBe(false)
    expect(await isSignedIn(second, op, mail)).toBe(false)
    expect(await isSignedIn(bob, op, notes)).toBe(true)
    expect(await userinfo(op, atFirst.tokens.access_token)).toBe(401)
    const told = await rps.received(2)
    expect(told.map(({ token }) => claimsOf(token).sid).sort()).toEqual(
      [atFirst, atSecond].map(({ tokens }) => claimsOf(tokens.id_token).sid).sort(),
    )
    await done(op, job.id)
    expect(await op.provider.opSessions.jobs.list()).toMatchObject([{ id: job.id, state: 'done', ended: 2, total: 2 }])
    expect(await isSignedIn(second, op, mail)).toBe(false)
    await logIn(first, op, notes)
    expect(await isSignedIn(first, op, notes)).toBe(true)
  })

  it('tells every RP the same time of the event: that from which on all was refused [T3]', async () => {
    const op = await start({ options: { sweep: { batch: 1, perSecond: 1 } } })
    await logIn(first, op, notes)
    const { notBefore } = await op.provider.opSessions.endAll({ accountId: 'ada' })
    const [told] = await rps.received(1)
    expect(claimsOf(told?.token ?? '').toe).toBe(Math.floor(notBefore / 1000))
  })

  it('leaves alone the browser in which the password was changed, its tokens too [T2]', async () => {
    const op = await start()
    const here = await logIn(first, op, notes, offline)
    const [uid = ''] = await uidsOf(op, 'ada')
    await logIn(second, op, notes)
    const { id } = await op.provider.opSessions.endAll(
      { accountId: 'ada', except: [uid] },
      { cause: 'password_change' },
    )
    await done(op, id)
    expect(await isSignedIn(first, op, notes)).toBe(true)
    expect(await isSignedIn(second, op, notes)).toBe(false)
    expect(await userinfo(op, here.tokens.access_token)).toBe(200)
    expect((await refresh(op, here.tokens.refresh_token)).status).toBe(200)
    await rps.received(1)
    expect(rps.logouts).toHaveLength(1)
  })

  it('refuses a code that was issued before [T2]', async () => {
    const op = await start()
    const { code } = await authorize(first, op, notes, offline)
    await op.provider.opSessions.endAll({ accountId: 'ada' }, { cause: 'compromise' })
    await expect(redeem(op, notes, code)).rejects.toThrow('invalid_grant')
  })

  it('refuses a login whose password was checked a moment before: the user is asked again [T2]', async () => {
    let asked = 0
    const op = await start({
      interact: async ({ prompt }) => {
        if (prompt.name !== 'login') return { consent: {} }
        asked += 1
        const accountId = 'ada'
        if (asked === 1) await op.provider.opSessions.endAll({ accountId }, { cause: 'password_change' })
        return { login: { accountId } }
      },
    })
    await authorize(first, op, notes)
    expect(asked).toBe(2)
    expect(await isSignedIn(first, op, notes)).toBe(true)
  })

  it('lets the login go on in which the password was reset [T2]', async () => {
    let asked = 0
    const op = await start({
      interact: async ({ prompt, uid }) => {
        if (prompt.name !== 'login') return { consent: {} }
        asked += 1
        const scope = { accountId: 'ada', except: [uid] }
        await op.provider.opSessions.endAll(scope, { cause: 'password_change' })
        return { login: { accountId: 'ada' } }
      },
    })
    await logIn(second, op, notes)
    await logIn(first, op, notes)
    expect(asked).toBe(2) // once each
    expect(await isSignedIn(first, op, notes)).toBe(true)
    expect(await isSignedIn(second, op, notes)).toBe(false)
  })

  it('keeps nothing of the interaction it leaves alone but a hash [T6]', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'lockstep-end-all-'))
    const store = sqliteStore(join(folder, 'op.db'))
    opened.push({ close: () => rm(folder, { recursive: true }) }, store)
    const uids: string[] = []
    const op = await start({
      store,
      interact: async ({ prompt, uid }) => {
        if (prompt.name !== 'login') return { consent: {} }
        uids.push(uid)
        await op.provider.opSessions.endAll({ accountId: 'ada', except: [uid] })
        return { login: { accountId: 'ada' } }
      },
    })
    await logIn(first, op, notes)
    const files = await Promise.all((await readdir(folder)).map((name) => readFile(join(folder, name), 'latin1')))
    expect(uids).toHaveLength(1)
    for (const uid of uids) expect(files.join('')).not.toContain(uid)
  })

  it('is called by a page of the OP, which learns by itself whose browser asks', async () => {
    const op = await start()
    const page = createServer(async (request, response) => {
      const { uid, accountId = '' } = await op.provider.Session.get(op.provider.createContext(request, response))
      await op.provider.opSessions.endAll({ accountId, except: [uid] }, { cause: 'password_change' })
      response.end('saved')
    })
    await new Promise<void>((resolve) => page.listen(0, '127.0.0.1', resolve))
    opened.push({ close: async () => page.close() })
    await logIn(first, op, notes)
    await logIn(second, op, notes)
    await first.open(`http://localhost:${(page.address() as AddressInfo).port}/account/password`)
    expect(await isSignedIn(first, op, notes)).toBe(true)
    expect(await isSignedIn(second, op, notes)).toBe(false)
  })

  it.each([
    'claimLogin',
    'saveOpSession',
  ] as const)('wins against a login that has got as far as %s [T2]', async (method) => {
    const store = sqliteStore(':memory:')
    let endAll: (() => Promise<unknown>) | undefined
    const op = await start({
      store: watched(store, async (called, write) => {
        if (called === method && JSON.stringify(write).includes('ada')) {
          const end = endAll
          endAll = undefined
          await end?.()
        }
      }),
    })
    opened.push(store)
    endAll = () => op.provider.opSessions.endAll({ accountId: 'ada' }, { cause: 'compromise' })
    const { params } = await authorize(first, op, notes)
    expect(endAll).toBeUndefined()
    expect([params.get('error'), params.get('code')]).toEqual(['login_required', null])
    expect(await isSignedIn(first, op, notes)).toBe(false)
    expect(await uidsOf(op, 'ada')).toEqual([])
  })

  /** A store that calls `onWrite` with what is about to be written; `claimLogin` is called with the account here. */
  function watched(inner: OpStore, onWrite: (method: string, what: unknown) => Promise<void>): OpStore {
    return {
      forIssuer(issuer, runtime) {
        const issuerStore = inner.forIssuer(issuer, runtime)
        return {
          ...issuerStore,
          async saveOpSession(write) {
            await onWrite('saveOpSession', write)
            return issuerStore.saveOpSession(write)
          },
          async claimLogin(...claim) {
            await onWrite('claimLogin', 'ada')
            return issuerStore.claimLogin(...claim)
          },
        } satisfies OpIssuerStore
      },
      close: () => inner.close(),
    }
  }

  it('goes on where it was when the OP is started again', async () => {
    const store = sqliteStore(':memory:')
    opened.push(store)
    const slowly = { batch: 1, perSecond: 0.001 }
    const op = await start({ store, options: { sweep: slowly } })
    await logIn(first, op, notes)
    await logIn(second, op, notes)
    const { id } = await op.provider.opSessions.endAll({ accountId: 'ada' }, { actor: 'root' })
    await rps.received(1)
    await op.close()
    opened.splice(opened.indexOf(op), 1)
    expect(rps.logouts).toHaveLength(1)

    const ahead = 1_000_001 // the pause after the first
    const runtime = { now: () => Date.now() + ahead }
    const again = await start({ store, port: op.port, options: { runtime, sweep: slowly } })
    expect(await isSignedIn(second, again, notes)).toBe(false)
    await rps.received(2)
    expect(await again.provider.opSessions.jobs.get(id)).toMatchObject({ ended: 2, total: 2, actor: 'root' })
  })

  it('of 10,000 lets others sign in meanwhile', async () => {
    const store = sqliteStore(':memory:')
    opened.push(store)
    const op = await start({ store, options: { sweep: { perSecond: 1_000_000 } } })
    const inside = store.forIssuer(op.issuer, {
      now: Date.now,
      random: (n) => crypto.getRandomValues(new Uint8Array(n)),
    })
    const expiresAt = Math.floor(Date.now() / 1000) + 3600
    for (let i = 0; i < 10_000; i++) {
      const payload = { loginTs: 1 }
      await inside.saveOpSession({
        uid: `u${i}`,
        handle: `h${i}`,
        accountId: 'ada',
        payload,
        rps: [],
        expiresAt,
        extend: true,
      })
    }
    const { id, total } = await op.provider.opSessions.endAll({ accountId: 'ada' })
    expect(total).toBe(10_000)
    await logIn(first, op, notes, { login_hint: 'bob' })
    await logIn(second, op, notes)
    const meanwhile = await op.provider.opSessions.jobs.get(id)
    expect(meanwhile?.state).toBe('running')
    expect(meanwhile?.ended).toBeGreaterThan(0)
    await done(op, id)
    expect(await op.provider.opSessions.jobs.get(id)).toMatchObject({ ended: 10_000 })
    expect(await isSignedIn(second, op, notes)).toBe(true)
  })
})

describe('the end of all OP sessions', () => {
  it('in which a client is logged in leaves those without it [T2]', async () => {
    const op = await start()
    await logIn(first, op, notes)
    await logIn(second, op, mail)
    const { id } = await op.provider.opSessions.endAll({ clientId: 'notes' }, { cause: 'compromise' })
    expect(await isSignedIn(first, op, mail)).toBe(false)
    expect(await isSignedIn(second, op, mail)).toBe(true)
    await done(op, id)
    await logIn(first, op, notes)
    expect(await isSignedIn(first, op, notes)).toBe(true)
  })

  it('is the end of everyone’s [T2]', async () => {
    const op = await start()
    await logIn(first, op, notes)
    await logIn(second, op, mail, { login_hint: 'bob' })
    expect(await op.provider.opSessions.endAll('everyone', { dryRun: true })).toBe(2)
    await op.provider.opSessions.endAll('everyone')
    expect(await isSignedIn(first, op, notes)).toBe(false)
    expect(await isSignedIn(second, op, mail)).toBe(false)
    expect((await op.provider.opSessions.list('everyone')).sessions).toEqual([])
    await rps.received(2)
  })

  it.each([
    [{}, 'whose OP sessions'],
    [{ accountId: '' }, 'whose OP sessions'],
    [{ accountid: 'ada' }, 'whose OP sessions'],
    [{ accountId: 'ada', clientId: 'notes' }, 'whose OP sessions'],
    [{ clientId: 'notes', except: ['u'] }, 'whose OP sessions'],
    ['all', 'whose OP sessions'],
    [undefined, 'whose OP sessions'],
    [{ accountId: 'ada', except: 'uid' }, 'except'],
  ])('is refused for %j, so that a slip never ends more than was meant', async (scope, message) => {
    const op = await start()
    // @ts-expect-error: what a caller without types may write
    await expect(op.provider.opSessions.endAll(scope)).rejects.toThrow(new RegExp(message))
    await expect(op.provider.opSessions.jobs.list()).resolves.toEqual([])
  })

  it.each([
    [{ cause: 'boredom' }, 'cause'],
    [{ reason: 'Ada asked for it' }, 'reason'],
    [{ actor: '' }, 'actor'],
    [{ dryrun: true }, 'dryrun'],
  ])('is refused with %j', async (options, message) => {
    const op = await start()
    // @ts-expect-error: what a caller without types may write
    await expect(op.provider.opSessions.endAll({ accountId: 'ada' }, options)).rejects.toThrow(new RegExp(message))
    await expect(op.provider.opSessions.end('uid', options as { actor: string })).rejects.toThrow(TypeError)
  })

  it.each([-1, 0, 1.5, 1001])('lists no jobs with a limit of %d', async (limit) => {
    const op = await start()
    await expect(op.provider.opSessions.jobs.list(limit)).rejects.toThrow('limit must be a whole number')
  })
})

describe('a token with offline_access', () => {
  it.each<[EndCause, boolean]>([
    ['rp_initiated', true],
    ['op_logout', true],
    ['user_switch', true],
    ['expired', true],
    ['password_change', false],
    ['email_change', false],
    ['factor_removed', false],
    ['account_disabled', false],
    ['account_deleted', false],
    ['admin', false],
    ['upstream_logout', false],
    ['compromise', false],
  ])('and an end for the cause %s: survives is %s [T1]', async (cause, survives) => {
    notes = rps.client('notes', { lockstep_revoke_offline_access: true })
    const op = await start({ clients: [notes, mail] })
    const { tokens } = await logIn(first, op, notes, offline)
    await logIn(first, op, mail)
    const [uid = ''] = await uidsOf(op, 'ada')
    expect(await op.provider.opSessions.end(uid, { cause })).toBeDefined()
    expect((await refresh(op, tokens.refresh_token)).status).toBe(survives ? 200 : 400)
    const told = new Map((await rps.received(2)).map(({ app, token }) => [app, claimsOf(token).events]))
    const event = { 'http://schemas.openid.net/event/backchannel-logout': {} }
    expect(told.get('notes')).toEqual(survives ? event : { ...event, revoke_offline_access: true })
    expect(told.get('mail')).toEqual(event) // did not ask
  })

  it('that outlived its OP session falls with the password [T1]', async () => {
    const op = await start()
    const { tokens } = await logIn(first, op, notes, offline)
    const [uid = ''] = await uidsOf(op, 'ada')
    await op.provider.opSessions.end(uid, { cause: 'op_logout' })
    const refreshed = await refresh(op, tokens.refresh_token)
    expect(refreshed.status).toBe(200)
    await op.provider.opSessions.endAll({ accountId: 'ada' }, { cause: 'password_change' })
    expect((await refresh(op, String(refreshed.body.refresh_token))).status).toBe(400)
    expect(await userinfo(op, String(refreshed.body.access_token))).toBe(401)
  })

  it('survives "sign out everywhere" by the user himself [T1]', async () => {
    const op = await start()
    const { tokens } = await logIn(first, op, notes, offline)
    const { id } = await op.provider.opSessions.endAll({ accountId: 'ada' }, { cause: 'op_logout' })
    expect(await isSignedIn(first, op, notes)).toBe(false)
    await done(op, id)
    expect((await refresh(op, tokens.refresh_token)).status).toBe(200)
  })
})

describe('why an OP session ended', () => {
  it('is told only to RPs to which the operator grants it, as a code [T30]', async () => {
    mail = rps.client('mail', { lockstep_logout_reason: true })
    const op = await start({ clients: [notes, mail] })
    const endings = [
      { cause: 'factor_removed', reason: 'lost-phone', actor: 'root' },
      { cause: 'email_change' },
    ] as const
    for (const [i, ending] of endings.entries()) {
      await logIn(first, op, notes)
      await logIn(first, op, mail)
      const [uid = ''] = await uidsOf(op, 'ada')
      await op.provider.opSessions.end(uid, ending)
      const told = new Map((await rps.received(2 * i + 2)).map(({ app, token }) => [app, claimsOf(token)]))
      expect(told.get('mail')?.reason).toBe(i === 0 ? 'lost-phone' : 'email_change')
      expect(told.get('notes')).not.toHaveProperty('reason')
    }
  })

  it('may be one of which the operator keeps an RP ignorant', async () => {
    mail = rps.client('mail', { lockstep_ignored_causes: ['email_change'] })
    const op = await start({ clients: [notes, mail] })
    for (const cause of ['email_change', 'compromise'] as const) {
      await logIn(first, op, notes)
      await logIn(first, op, mail)
      const { id } = await op.provider.opSessions.endAll({ accountId: 'ada' }, { cause })
      await done(op, id)
    }
    await rps.received(3)
    expect(rps.logouts.map(({ app }) => app).sort()).toEqual(['mail', 'notes', 'notes'])
  })
})

describe('an OP session that expires', () => {
  it('is ended: its RPs are told, once, though several nodes look [design §4]', async () => {
    const store = sqliteStore(':memory:')
    opened.push(store)
    let ahead = 0
    const options = { runtime: { now: () => Date.now() + ahead }, sessionLifetime: 3600, sweep: { interval: 0.02 } }
    const op = await start({ store, options })
    const { tokens } = await logIn(first, op, notes)
    await logIn(first, op, mail, offline)
    ahead = 3_601_000
    const others = await Promise.all([start({ store, port: 0, options }), start({ store, port: 0, options })])
    expect(others).toHaveLength(2)
    const told = await rps.received(2)
    const toNotes = claimsOf(told.find(({ app }) => app === 'notes')?.token ?? '')
    expect(toNotes.sid).toBe(claimsOf(tokens.id_token).sid)
    expect(toNotes.toe).toBeLessThanOrEqual(Math.floor(Date.now() / 1000) + 3600)
    expect(await isSignedIn(first, op, notes)).toBe(false)
    const inside = store.forIssuer(op.issuer, { now: () => Date.now() + ahead, random: (n) => new Uint8Array(n) })
    expect(await inside.expiredOpSessions(10)).toEqual([])
    expect(rps.logouts).toHaveLength(2)
  })
})

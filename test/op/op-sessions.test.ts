import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { authorize, claimsOf, isSignedIn, logIn } from '../support/op-flow.ts'
import { type RpSite, startRpSite } from '../support/rp-site.ts'
import { startTestOp, type TestOp } from '../support/test-op.ts'
import { createUserAgent, type UserAgent } from '../support/user-agent.ts'

let rps: RpSite
let op: TestOp
let first: UserAgent
let second: UserAgent
let notes: ReturnType<RpSite['client']>
let mail: ReturnType<RpSite['client']>

beforeEach(async () => {
  rps = await startRpSite()
  notes = rps.client('notes')
  mail = rps.client('mail', { lockstep_logout_details: true })
  op = await startTestOp({ clients: [notes, mail] })
  first = createUserAgent()
  second = createUserAgent()
})
afterEach(async () => {
  await op.close()
  await first.close()
  await second.close()
  await rps.close()
})

const sessionsOf = async (accountId: string) => (await op.provider.opSessions.list({ accountId })).sessions

describe('an operator', () => {
  it('sees the live OP sessions of an account, newest first, with the RPs that would be told', async () => {
    const before = Math.floor(Date.now() / 1000)
    const atNotes = await logIn(first, op, notes)
    await logIn(second, op, notes)
    const atMail = await logIn(second, op, mail)
    await logIn(createUserAgent(), op, notes, { login_hint: 'bob' })

    const [newest, oldest, ...more] = await sessionsOf('ada')
    expect(more).toEqual([])
    expect(oldest).toEqual({
      uid: expect.any(String),
      accountId: 'ada',
      createdAt: expect.any(Number),
      expiresAt: expect.any(Number),
      clients: [{ clientId: 'notes', sid: claimsOf(atNotes.tokens.id_token).sid }],
    })
    expect(newest?.clients.map(({ clientId }) => clientId).sort()).toEqual(['mail', 'notes'])
    expect(newest?.clients).toContainEqual({ clientId: 'mail', sid: claimsOf(atMail.tokens.id_token).sid })
    expect(oldest?.createdAt).toBeGreaterThanOrEqual(before)
    expect(oldest?.expiresAt).toBeGreaterThan(before + 86_400)
    expect(await sessionsOf('nobody')).toEqual([])
  })

  it('ends one of them: its browser, tokens and RPs, and no other [BCL-2.3-a]', async () => {
    const atFirst = await logIn(first, op, notes)
    const atSecond = await logIn(second, op, notes)
    const uid = (await sessionsOf('ada')).find(({ clients }) =>
      clients.some(({ sid }) => sid === claimsOf(atFirst.tokens.id_token).sid),
    )?.uid
    const logoutId = await op.provider.opSessions.end(uid ?? '', { actor: 'root@example' })
    expect(logoutId).toMatch(/^[\w-]{22}$/)

    const told = await rps.received(1)
    expect(told.map(({ token }) => claimsOf(token).sid)).toEqual([claimsOf(atFirst.tokens.id_token).sid])
    expect(await isSignedIn(first, op, notes)).toBe(false)
    expect(await isSignedIn(second, op, notes)).toBe(true)
    const userinfo = (token: string) => fetch(`${op.issuer}/me`, { headers: { authorization: `Bearer ${token}` } })
    expect((await userinfo(atFirst.tokens.access_token)).status).toBe(401)
    expect((await userinfo(atSecond.tokens.access_token)).status).toBe(200)
  })

  it('keeps cause and name with the fact, and tells no RP who it was [design §7.2]', async () => {
    await logIn(first, op, mail)
    const [session] = await sessionsOf('ada')
    const id = await op.provider.opSessions.end(session?.uid ?? '', { actor: 'root@example' })
    const store = op.store.forIssuer(op.issuer, { now: Date.now, random: (n) => new Uint8Array(n) })
    const known = await store.getLogout(id ?? '')
    expect(known?.logout).toMatchObject({ cause: 'admin', actor: 'root@example', accountId: 'ada' })
    const claims = claimsOf((await rps.received(1))[0]?.token ?? '')
    expect(JSON.stringify(claims)).not.toMatch(/root|admin/)
    expect(claims.lockstep_logout_details).not.toHaveProperty('ended_by')
  })

  it('ends the same OP session twice and an unknown one without an error [RPI-4-b]', async () => {
    await logIn(first, op, notes)
    const [session] = await sessionsOf('ada')
    expect(await op.provider.opSessions.end(session?.uid ?? '')).toBeDefined()
    expect(await op.provider.opSessions.end(session?.uid ?? '')).toBeUndefined()
    expect(await op.provider.opSessions.end('unknown')).toBeUndefined()
    expect(await op.provider.opSessions.end('__proto__')).toBeUndefined()
    await rps.received(1)
    expect(rps.logouts).toHaveLength(1)
  })

  it('ends an OP session at the same moment as its user does: one fact, each RP told once [design §4]', async () => {
    await logIn(first, op, notes)
    await logIn(first, op, mail)
    const [session] = await sessionsOf('ada')
    const question = await first.open(`${op.issuer}/session/end`)
    const [page, ...ids] = await Promise.all([
      first.submit(question, { answer: 'yes' }),
      op.provider.opSessions.end(session?.uid ?? ''),
      op.provider.opSessions.end(session?.uid ?? ''),
    ])
    expect(page.status).toBe(200)
    expect(ids.filter((id) => id !== undefined).length).toBeLessThanOrEqual(1)
    await rps.received(2)
    expect(rps.logouts.map(({ app }) => app).sort()).toEqual(['mail', 'notes'])
    expect(await isSignedIn(first, op, notes)).toBe(false)
  })

  it('lets the user sign in again afterwards, in the same browser', async () => {
    await logIn(first, op, notes)
    const [session] = await sessionsOf('ada')
    await op.provider.opSessions.end(session?.uid ?? '')
    expect((await authorize(first, op, notes)).code).toMatch(/./)
    expect((await sessionsOf('ada')).map(({ uid }) => uid)).not.toContain(session?.uid)
  })
})

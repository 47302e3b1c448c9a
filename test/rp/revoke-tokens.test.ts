import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { BACKCHANNEL_LOGOUT_EVENT } from '../../src/protocol/logout-token.ts'
import { createSealer } from '../../src/rp/seal.ts'
import { namesOf } from '../../src/rp/session-id.ts'
import type { Grant } from '../../src/rp/store/contract.ts'
import { createRelyingParty, type RelyingParty, type RpLogEvent, type RpSessionStore } from '../../src/rp.ts'
import { memoryStore } from '../../src/rp-memory.ts'
import { opened, START, someNotice, someSession } from '../../src/testing/rp-store-bench.ts'
import { type FakeOp, startFakeOp } from './fake-op.ts'
import { postForm } from './plain-request.ts'
import { createVirtualTime, type VirtualTime } from './virtual-time.ts'

let op: FakeOp
let time: VirtualTime
let store: ReturnType<typeof memoryStore>
let sessions: RpSessionStore
let rp: RelyingParty | undefined
const log: RpLogEvent[] = []

beforeEach(async () => {
  op = await startFakeOp()
  time = createVirtualTime(START * 1000)
  store = memoryStore()
  sessions = store.forClient({ issuer: op.issuer, clientId: 'notes' }, time)
  log.length = 0
})

afterEach(async () => {
  await rp?.close()
  rp = undefined
  await op.close()
})

function startRp(secret = 's'.repeat(32)): RelyingParty {
  rp = createRelyingParty({
    issuer: op.issuer,
    clientId: 'notes',
    clientSecret: 'client secret',
    appUrl: 'https://notes.example',
    cookieSuffix: 'notes',
    secret,
    store,
    runtime: time,
    log: (event) => log.push(event),
  })
  return rp
}

const id = 'x'.repeat(43)

async function openWithRefreshToken(): Promise<void> {
  const sealed = await createSealer(['s'.repeat(32)]).seal('refresh-token', { refreshToken: 'the refresh token' })
  await opened(sessions, someSession({ ...namesOf(id), sid: 's', refreshToken: { sealed, offline: false } }))
}

const revoked = () => op.posted.filter(({ path }) => path === '/revoke').map(({ form }) => form.get('token'))

describe('a refresh token that an ended RP session leaves', () => {
  it('is revoked at the OP [BC §2.7] [A52]', async () => {
    await openWithRefreshToken()
    const headers = { cookie: `__Host-lockstep-notes=${id}`, 'sec-fetch-site': 'same-origin' }
    await postForm(startRp(), '/auth/logout', { from: 'this-app' }, headers)
    await vi.waitFor(() => expect(revoked()).toEqual(['the refresh token']))
    await vi.waitFor(async () => expect(await sessions.nextOwedAt()).toBeUndefined())
    expect(op.posted[0]?.form.get('token_type_hint')).toBe('refresh_token')
  })

  it.each([
    ['stays when it has offline_access', false, []],
    ['stays when it has offline_access and the OP says something else than yes', 'true', []],
    ['stays when it has offline_access and the OP says it as another event', {}, []],
    ['is revoked although it has offline_access when the OP asks for that, as Keycloak does', true, ['offline token']],
  ] as const)('%s [BCL-2.7-c]', async (_name, revoke_offline_access, expected) => {
    const seal = (token: string) => createSealer(['s'.repeat(32)]).seal('refresh-token', { refreshToken: token })
    const offline = { sealed: await seal('offline token'), offline: true }
    const online = { sealed: await seal('online token'), offline: false }
    await opened(
      sessions,
      someSession({ sid: 's', refreshToken: offline }),
      someSession({ sid: 's', refreshToken: online }),
    )
    const events = { [BACKCHANNEL_LOGOUT_EVENT]: {}, revoke_offline_access }
    const claims = { iss: op.issuer, aud: 'notes', iat: START, exp: START + 120, jti: 'one', sid: 's', events }
    const answer = await postForm(startRp(), '/auth/backchannel-logout', { logout_token: await op.mint(claims) })
    expect([answer.status, answer.headers['logout-sessions-ended']]).toEqual([200, '2'])
    await vi.waitFor(() => expect([...revoked()].sort()).toEqual([...expected, 'online token']))
    await vi.waitFor(async () => expect(await sessions.nextOwedAt()).toBeUndefined())
  })

  it('is revoked after a crash in between, when the app starts again [T7]', async () => {
    await openWithRefreshToken()
    await sessions.endBy({ sid: 's' }, someNotice()) // answered 200, and then the process died
    startRp()
    await vi.waitFor(() => expect(revoked()).toEqual(['the refresh token']))
  })

  it('is revoked by a process that was idle, when the one that was told has died [T7]', async () => {
    startRp()
    await vi.waitFor(() => expect(time.waiting()).toBe(1))
    await openWithRefreshToken()
    await sessions.endBy({ sid: 's' }, someNotice())
    await time.pass(90) // it looks each minute or so
    await vi.waitFor(() => expect(revoked()).toEqual(['the refresh token']))
  })

  it.each([
    ['hangs up', 'hang up' as const],
    ['is broken', { status: 500, body: {} }],
    ['is overloaded', { status: 503, body: { error: 'temporarily_unavailable' } }],
  ])('is tried again while the OP %s, and that is logged once [T7] [A52]', async (_name, answer) => {
    op.answers.set('/revoke', answer)
    await openWithRefreshToken()
    await sessions.endBy({ sid: 's' }, someNotice())
    startRp()
    await vi.waitFor(async () => {
      await time.pass(1)
      expect(revoked().length).toBeGreaterThanOrEqual(3)
    })
    op.answers.delete('/revoke')
    await vi.waitFor(async () => {
      await time.pass(60)
      expect(await sessions.nextOwedAt()).toBeUndefined()
    })
    expect(log.filter(({ event }) => event === 'revocation_failed')).toHaveLength(1)
    expect(JSON.stringify(log)).not.toContain('the refresh token')
  })

  it('after a refresh that brought it is left alone once another login with the same sid has the grant [T7]', async () => {
    const sealer = createSealer(['s'.repeat(32)])
    const accessTokenLife = { expiresAt: START, refreshAt: START }
    const tokens = await sealer.seal('tokens', { idToken: 'i', accessToken: 'a', accessTokenLife })
    const refreshToken = { sealed: await sealer.seal('refresh-token', { refreshToken: 'used' }), offline: false }
    await opened(sessions, someSession({ ...namesOf(id), sid: 's', tokens, refreshToken }))
    const body = { access_token: 'b', token_type: 'Bearer', refresh_token: 'rotated' }
    op.answers.set('/token', { status: 200, body })
    op.answers.set('/revoke', { status: 500, body: {} })
    const headers = { cookie: `__Host-lockstep-notes=${id}`, 'sec-fetch-site': 'same-origin' }
    const app = startRp()
    expect(await app.accessToken(headers.cookie)).toBe('b')
    await postForm(app, '/auth/logout', { from: 'this-app' }, headers)
    await vi.waitFor(() => expect(log).toContainEqual(expect.objectContaining({ event: 'revocation_failed' })))
    await opened(sessions, someSession({ sid: 's', refreshToken }))
    op.answers.delete('/revoke')
    const attempts = revoked()
    await vi.waitFor(async () => {
      await time.pass(60)
      expect(await sessions.nextOwedAt()).toBeUndefined()
    })
    expect([attempts[0], revoked()]).toEqual(['rotated', attempts])
  })

  it('is known by its grant, too, where an earlier version has sealed it', async () => {
    const sealer = createSealer(['s'.repeat(32)])
    const seal = (contents: unknown) => sealer.seal('refresh-token', contents)
    await sessions.owe(await seal({ refreshToken: 'in use', sub: 'ada', sid: 's' }))
    await sessions.owe(await seal({ refreshToken: 'of nobody', sub: 'ada', sid: 't' }))
    await sessions.owe(await seal('earlier still'))
    await opened(sessions, someSession({ sid: 's', refreshToken: { sealed: 'x', offline: false } }))
    startRp()
    await vi.waitFor(async () => expect(await sessions.nextOwedAt()).toBeUndefined())
    expect([...revoked()].sort()).toEqual(['earlier still', 'of nobody'])
  })

  describe('while another RP session is alive', () => {
    const sealer = createSealer(['s'.repeat(32)])
    const sealed = (refreshToken: string, grant: Grant) => sealer.seal('refresh-token', { refreshToken, grant })
    const lasting = { idleExpiresAt: START + 200_000, expiresAt: START + 200_000 }

    async function paid(): Promise<void> {
      startRp()
      await vi.waitFor(async () => expect(await sessions.nextOwedAt()).toBeUndefined())
    }

    it('is left alone at its expiry if their tokens are of one grant, by whichever sid [T7]', async () => {
      const token = async (name: string, ...sids: string[]) => ({
        sid: sids[0] ?? '',
        refreshToken: { sealed: await sealed(name, { sub: 'ada', sids }), offline: false },
      })
      const [, refreshed = ''] = await opened(
        sessions,
        someSession({ ...lasting, ...(await token('alive', 'a')) }),
        someSession({ ...lasting, ...(await token('alive too', 'login')) }),
        someSession(await token('same login', 'a')),
        someSession(await token('same since its refresh', 'x', 'a')),
        someSession(await token("same since the other one's refresh", 'b')),
        someSession(await token('own', 'c')),
      )
      await sessions.addSid(refreshed, { sid: 'b', requestedAt: START * 1000, from: 'grant' })
      await sessions.addSid(refreshed, { sid: 'c', requestedAt: START * 1000, from: 'browser' })
      await time.pass(86_461)
      for (let i = 0; i < 5; i++) await opened(sessions, someSession({ ...lasting, sub: 'grace' }))
      await paid()
      expect(revoked()).toEqual(['own'])
    })

    it('is left alone if that is a login in the same browser with the same grant, and else revoked [T7]', async () => {
      for (const [name, sid] of [
        ['same', 's'],
        ['other', 't'],
      ] as const) {
        const refreshToken = { sealed: await sealed(name, { sub: 'ada', sids: [sid] }), offline: false }
        const [before = ''] = await opened(sessions, someSession({ sid, refreshToken }))
        await sessions.create(someSession({ sid: 's', refreshToken }), { replaces: before })
      }
      await paid()
      expect(revoked()).toEqual(['other'])
    })

    it('is left alone if the OP has named the other in a refreshed ID Token [T7]', async () => {
      const accessTokenLife = { expiresAt: START, refreshAt: START }
      const tokens = await sealer.seal('tokens', { idToken: 'i', accessToken: 'a', accessTokenLife })
      const refreshToken = { sealed: await sealed('used', { sub: 'ada', sids: ['s'] }), offline: false }
      await opened(sessions, someSession({ ...namesOf(id), sid: 's', tokens, refreshToken }))
      await opened(sessions, someSession({ sid: 'of its tokens', refreshToken }))
      const iat = Math.floor(Date.now() / 1000) // the library that checks it has its own clock
      const claims = { iss: op.issuer, aud: 'notes', sub: 'ada', sid: 'of its tokens', iat, exp: iat + 60 }
      const id_token = await op.mint(claims, { typ: 'JWT' })
      op.answers.set('/token', { status: 200, body: { access_token: 'b', token_type: 'Bearer', id_token } })
      const headers = { cookie: `__Host-lockstep-notes=${id}`, 'sec-fetch-site': 'same-origin' }
      const app = startRp()
      expect(await app.accessToken(headers.cookie)).toBe('b')
      await postForm(app, '/auth/logout', { from: 'this-app' }, headers)
      await vi.waitFor(async () => expect(await sessions.nextOwedAt()).toBeUndefined())
      expect(revoked()).toEqual([])
    })
  })

  it('is given up after a week, and that is logged', async () => {
    op.answers.set('/revoke', 'hang up')
    await openWithRefreshToken()
    await sessions.endBy({ sid: 's' }, someNotice())
    await time.pass(8 * 86_400)
    startRp()
    await vi.waitFor(() => expect(log).toContainEqual(expect.objectContaining({ event: 'revocation_given_up' })))
    expect(await sessions.nextOwedAt()).toBeUndefined()
  })

  it('is given up, and that is logged, when no secret opens it any more', async () => {
    await openWithRefreshToken()
    await sessions.endBy({ sid: 's' }, someNotice())
    startRp('another secret of 32 characters or more')
    await vi.waitFor(() => expect(log).toContainEqual(expect.objectContaining({ event: 'revocation_given_up' })))
    expect(revoked()).toEqual([])
  })
})

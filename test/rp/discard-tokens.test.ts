import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { LockstepError } from '../../src/protocol/errors.ts'
import {
  createRelyingParty,
  type RelyingParty,
  type RelyingPartyOptions,
  type RpLogEvent,
  type RpSessionStore,
} from '../../src/rp.ts'
import { memoryStore } from '../../src/rp-memory.ts'
import { START, someNotice, someSession } from '../../src/testing/rp-store-bench.ts'
import { type FakeOp, startFakeOp } from './fake-op.ts'
import { ask, textOf } from './plain-request.ts'
import { createVirtualTime, type VirtualTime } from './virtual-time.ts'

let op: FakeOp
let time: VirtualTime
let store: ReturnType<typeof memoryStore>
let sessions: RpSessionStore
let rp: RelyingParty<unknown>
const log: RpLogEvent[] = []

beforeEach(async () => {
  op = await startFakeOp()
  time = createVirtualTime(START * 1000)
  store = memoryStore()
  sessions = store.forClient({ issuer: op.issuer, clientId: 'notes' }, time)
  log.length = 0
})

afterEach(async () => {
  await rp.close()
  await op.close()
})

function start(options: Partial<RelyingPartyOptions<unknown>> = {}): void {
  rp = createRelyingParty<unknown>({
    issuer: op.issuer,
    clientId: 'notes',
    clientSecret: 'the client secret',
    appUrl: 'https://notes.example',
    store,
    runtime: time,
    log: (event) => log.push(event),
    ...options,
  })
}

/** Comes back from the OP with a code that is worth this refresh token. */
async function comeBack(refreshToken = 'r') {
  const begun = await ask(rp, 'GET', '/auth/login')
  const sent = new URL(begun.headers.location ?? '').searchParams
  const nonce = sent.get('nonce')
  const iat = Math.floor(Date.now() / 1000) // the library that checks it has its own clock
  const claims = { iss: op.issuer, aud: 'notes', sub: 'ada', sid: 's', iat, exp: iat + 60, nonce }
  const id_token = await op.mint(claims, { typ: 'JWT' })
  const body = { access_token: 'a', token_type: 'Bearer', id_token, refresh_token: refreshToken }
  op.answers.set('/token', { status: 200, body })
  const query = new URLSearchParams({ code: 'c', state: sent.get('state') ?? '', iss: op.issuer })
  const cookie = begun.cookies.map((line) => line.split(';')[0]).join('; ')
  return ask(rp, 'GET', `/auth/callback?${query}`, { cookie })
}

/** The machine may be busy. */
const patience = { timeout: 20_000 }

const revoked = () => op.posted.filter(({ path }) => path === '/revoke').map(({ form }) => form.get('token'))

const noTable = () => {
  throw new Error('no such table')
}

describe('the refresh token of a login that comes to nothing', () => {
  it('because mapSession throws is revoked at the OP [T7]', async () => {
    start({ mapSession: noTable })
    expect((await comeBack()).status).toBe(500)
    expect(revoked()).toEqual(['r'])
  })

  it('because the UserInfo Endpoint refuses it is revoked at the OP [T7]', async () => {
    const document = { ...(await discovered()), userinfo_endpoint: `${op.issuer}/userinfo` }
    op.answers.set('/.well-known/openid-configuration', { status: 200, body: document })
    op.answers.set('/userinfo', { status: 500, body: {} })
    start({ mapSession: ({ sub }) => sub })
    expect((await comeBack()).status).toBe(502)
    expect(revoked()).toEqual(['r'])
  })

  it('because a logout has overtaken it is revoked before the OP is asked once more [T3] [T7]', async () => {
    const mapSession = async () => {
      await time.pass(1)
      await sessions.endBy({ sid: 's' }, someNotice())
    }
    start({ mapSession })
    const answer = await comeBack()
    expect(revoked()).toEqual(['r'])
    expect(answer.headers.location?.startsWith(`${op.issuer}/authorize`)).toBe(true)
  })

  it('because the store fails is revoked at the OP, and the page says that the store is away [T7]', async () => {
    start()
    sessions.create = async () => {
      throw new LockstepError('store_failed', 'connection lost')
    }
    const answer = await comeBack()
    expect(answer.status).toBe(503)
    expect(textOf(answer)).toContain('This app cannot reach its sessions at the moment')
    expect(revoked()).toEqual(['r'])
  })

  it('is owed to an OP that does not take it, and revoked when it does [T7]', async () => {
    start({ mapSession: noTable })
    op.answers.set('/revoke', { status: 503, body: { error: 'temporarily_unavailable' } })
    await comeBack()
    await vi.waitFor(async () => {
      await time.pass(10)
      expect(revoked().length).toBeGreaterThanOrEqual(3)
    }, patience)
    op.answers.delete('/revoke')
    await vi.waitFor(async () => {
      await time.pass(60)
      expect(await sessions.nextOwedAt()).toBeUndefined()
    }, patience)
    expect(new Set(revoked())).toEqual(new Set(['r']))
    expect(JSON.stringify(log)).not.toMatch(/"r"|ada/)
  })

  it('is left alone where an RP session has the same grant, now or by the next attempt', async () => {
    start({ mapSession: noTable })
    op.answers.set('/revoke', { status: 503, body: { error: 'temporarily_unavailable' } })
    await comeBack('first')
    await vi.waitFor(() => expect(revoked()).toEqual(['first', 'first']), patience) // at once, and the first time that it is owed
    op.answers.delete('/revoke')
    const refreshToken = { sealed: 'x', offline: false }
    await sessions.create(someSession({ sid: 's', refreshToken, requestedAt: START * 1000 }))
    await comeBack('second')
    await vi.waitFor(async () => {
      await time.pass(60)
      expect(await sessions.nextOwedAt()).toBeUndefined()
    }, patience)
    expect(revoked()).toEqual(['first', 'first'])
  })

  it('is left alone where the tokens of an RP session were refreshed for the same OP session [T7]', async () => {
    start({ mapSession: noTable })
    const session = someSession({ sid: 'of its login', refreshToken: { sealed: 'x', offline: false } })
    await sessions.create(session)
    await sessions.addSid(session.handle, { sid: 's', requestedAt: START * 1000, from: 'grant' })
    await comeBack()
    expect(revoked()).toEqual([])
    expect(await sessions.nextOwedAt()).toBeUndefined()
  })

  it('is revoked beside an RP session that has no refresh token: none would be revoked in its place when that ends [T7]', async () => {
    start({ mapSession: noTable })
    await sessions.create(someSession({ sid: 's', requestedAt: START * 1000 }))
    await comeBack()
    expect(revoked()).toEqual(['r'])
  })

  describe('while the store cannot say whether an RP session has the same grant', () => {
    beforeEach(async () => {
      start({ mapSession: noTable })
      const refreshToken = { sealed: 'x', offline: false }
      await sessions.create(someSession({ sid: 's', refreshToken, requestedAt: START * 1000 }))
      vi.spyOn(sessions, 'isGrantInUse').mockRejectedValueOnce(new LockstepError('store_failed', 'connection lost'))
    })

    it('is owed, and judged when the store can be read [T7]', async () => {
      await comeBack()
      await vi.waitFor(async () => expect(await sessions.nextOwedAt()).toBeUndefined(), patience)
      expect(revoked()).toEqual([])
      expect(log).toContainEqual({ event: 'revocation_failed', attempts: 1, message: 'connection lost' })
    })

    it('is left, and that is logged, when the store takes no debt either', async () => {
      sessions.owe = async () => noTable()
      await comeBack()
      expect(revoked()).toEqual([])
      expect(log).toContainEqual({ event: 'revocation_given_up', attempts: 1, message: 'no such table' })
    })
  })

  it('is not lost without a word when neither the OP nor the store takes it [T7]', async () => {
    start({ mapSession: noTable })
    op.answers.set('/revoke', 'hang up')
    sessions.owe = async () => noTable()
    await comeBack()
    expect(log).toContainEqual({ event: 'revocation_given_up', attempts: 1, message: 'no such table' })
  })
})

async function discovered(): Promise<Record<string, unknown>> {
  return (await (await fetch(`${op.issuer}/.well-known/openid-configuration`)).json()) as Record<string, unknown>
}

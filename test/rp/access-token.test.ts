import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import {
  createRelyingParty,
  type RelyingParty,
  type RpLogEvent,
  type RpSessionStore,
  type RpStore,
} from '../../src/rp.ts'
import { memoryStore } from '../../src/rp-memory.ts'
import { sqliteStore } from '../../src/rp-sqlite.ts'
import { world } from '../../src/runtime/runtime.ts'
import { someNotice } from '../../src/testing/rp-store-bench.ts'
import { type FakeOp, startFakeOp } from './fake-op.ts'
import { ask } from './plain-request.ts'

let op: FakeOp
let rp: RelyingParty
let store: RpStore
let sessions: RpSessionStore
let offset = 0
const nodes: RelyingParty[] = []
const log: RpLogEvent[] = []
const runtime = { ...world, now: () => world.now() + offset * 1000 }

/** Another process of the same app, as far as one process can tell. */
function node(): RelyingParty {
  const one = createRelyingParty({
    issuer: op.issuer,
    clientId: 'notes',
    clientSecret: 'the client secret',
    appUrl: 'https://notes.example',
    store,
    log: (event) => log.push(event),
    runtime,
  })
  nodes.push(one)
  return one
}

async function start(where: RpStore = memoryStore()): Promise<void> {
  store = where
  rp = node()
  sessions = store.forClient({ issuer: op.issuer, clientId: 'notes' }, runtime)
}

beforeEach(async () => {
  op = await startFakeOp()
  offset = 0
  log.length = 0
})

afterEach(async () => {
  for (const one of nodes.splice(0)) await one.close()
  await store.close()
  await op.close()
})

/** Signs ada in with these members of the token response and returns her cookie. */
async function signIn(more: Record<string, unknown>): Promise<string> {
  const begun = await ask(rp, 'GET', '/auth/login')
  const sent = new URL(begun.headers.location ?? '').searchParams
  const iat = Math.floor(Date.now() / 1000)
  const claims = { iss: op.issuer, aud: 'notes', sub: 'ada', sid: 's', iat, exp: iat + 60, nonce: sent.get('nonce') }
  const body = { access_token: 'a0', token_type: 'Bearer', id_token: await op.mint(claims, { typ: 'JWT' }), ...more }
  op.answers.set('/token', { status: 200, body })
  const query = new URLSearchParams({ code: 'c', state: sent.get('state') ?? '', iss: op.issuer })
  const cookie = begun.cookies.map((line) => line.split(';')[0]).join('; ')
  const { cookies } = await ask(rp, 'GET', `/auth/callback?${query}`, { cookie })
  return cookies.map((line) => line.split(';')[0] ?? '').find((pair) => !pair.endsWith('=')) ?? ''
}

function answerRefresh(more: Record<string, unknown>): void {
  op.answers.set('/token', { status: 200, body: { token_type: 'Bearer', ...more } })
}

/** Refresh requests so far, by the refresh token they brought. */
const refreshed = () =>
  op.posted
    .filter(({ form }) => form.get('grant_type') === 'refresh_token')
    .map(({ form }) => form.get('refresh_token'))

const lasting = { expires_in: 600, refresh_token: 'r0' }

describe('an access token', () => {
  it('is handed out while it is good, without asking the OP', async () => {
    await start()
    const cookie = await signIn(lasting)
    expect(await rp.accessToken(cookie)).toBe('a0')
    offset = 569
    expect(await rp.accessToken(cookie)).toBe('a0')
    expect(refreshed()).toEqual([])
  })

  it('of nobody is none', async () => {
    await start()
    for (const cookie of [undefined, null, '', 'a=b', `__Host-lockstep-x=${'a'.repeat(43)}`]) {
      expect(await rp.accessToken(cookie)).toBeUndefined()
    }
  })

  it('is refreshed once, however many requests want it, and the rotated refresh token is used next', async () => {
    await start()
    const cookie = await signIn(lasting)
    offset = 571
    answerRefresh({ access_token: 'a1', expires_in: 600, refresh_token: 'r1' })
    const all = await Promise.all(Array.from({ length: 50 }, () => rp.accessToken(cookie)))
    expect(new Set(all)).toEqual(new Set(['a1']))
    expect(refreshed()).toEqual(['r0'])
    offset += 571
    answerRefresh({ access_token: 'a2', expires_in: 600 })
    expect(await rp.accessToken(cookie)).toBe('a2')
    offset += 571
    expect(await rp.accessToken(cookie)).toBe('a2')
    expect(refreshed()).toEqual(['r0', 'r1', 'r1'])
  })

  it('that came with another sid leaves an RP session that a logout of that sid ends [BC §2.7]', async () => {
    await start()
    const cookie = await signIn(lasting)
    offset = 571
    const iat = Math.floor(Date.now() / 1000)
    const claims = { iss: op.issuer, aud: 'notes', sub: 'ada', sid: 'new', iat, exp: iat + 3600 }
    const id_token = await op.mint(claims, { typ: 'JWT' })
    answerRefresh({ access_token: 'a1', expires_in: 600, refresh_token: 'r1', id_token })
    expect(await rp.accessToken(cookie)).toBe('a1')
    const ended = await sessions.endBy({ sid: 'new', sub: 'ada' }, someNotice())
    expect(ended.outcome === 'ended' && ended.sessions).toHaveLength(1)
    expect(await rp.accessToken(cookie)).toBeUndefined()
  })

  it('is none, and the RP session ends, when a logout of its new sid came before the answer [T3]', async () => {
    await start()
    const cookie = await signIn(lasting)
    offset = 571
    const iat = Math.floor(Date.now() / 1000)
    const claims = { iss: op.issuer, aud: 'notes', sub: 'ada', sid: 'new', iat, exp: iat + 3600 }
    const id_token = await op.mint(claims, { typ: 'JWT' })
    answerRefresh({ access_token: 'a1', expires_in: 600, refresh_token: 'r1', id_token })
    const asked = sessions.now
    sessions.now = async () => {
      const at = await asked()
      offset += 1
      await sessions.endBy({ sid: 'new' }, someNotice({ watermarkExpiresAt: at + 86_400 }))
      return at
    }
    expect(await rp.accessToken(cookie)).toBeUndefined()
    expect(await sessions.listBySub('ada')).toEqual([])
    const revoked = () => op.posted.filter(({ path }) => path === '/revoke').map(({ form }) => form.get('token'))
    await vi.waitFor(() => expect(revoked().sort()).toEqual(['r0', 'r1']))
  })

  it('is refreshed once, however many processes want it', async () => {
    await start(sqliteStore(':memory:'))
    const cookie = await signIn(lasting)
    const others = [node(), node(), node()]
    offset = 571
    answerRefresh({ access_token: 'a1', expires_in: 600, refresh_token: 'r1' })
    const all = await Promise.all([rp, ...others].map((one) => one.accessToken(cookie)))
    expect(all).toEqual(['a1', 'a1', 'a1', 'a1'])
    expect(refreshed()).toEqual(['r0'])
  })

  it('that lives shortly is not refreshed at each request', async () => {
    await start()
    const cookie = await signIn({ expires_in: 20, refresh_token: 'r0' })
    expect(await rp.accessToken(cookie)).toBe('a0')
    expect(refreshed()).toEqual([])
  })

  it('without a refresh token is good until it expires, and then none', async () => {
    await start()
    const cookie = await signIn({ expires_in: 600 })
    offset = 598
    expect(await rp.accessToken(cookie)).toBe('a0')
    offset = 601
    expect(await rp.accessToken(cookie)).toBeUndefined()
  })

  it('keeps the refreshed tokens and the RP session as they were otherwise; idle lifetime is not extended [T11]', async () => {
    await start()
    const cookie = await signIn(lasting)
    const [before] = await sessions.listBySub('ada')
    offset = 571
    answerRefresh({ access_token: 'a1', expires_in: 600 })
    await rp.accessToken(cookie)
    const [after] = await sessions.listBySub('ada')
    expect(after).toEqual({ ...before, tokens: expect.not.stringMatching(before?.tokens ?? '') })
  })
})

describe('an OP that refuses a refresh token', () => {
  it('is not asked with it again; the RP session lives on', async () => {
    await start()
    const cookie = await signIn(lasting)
    offset = 571
    op.answers.set('/token', { status: 400, body: { error: 'invalid_grant' } })
    expect(await rp.accessToken(cookie)).toBe('a0') // it is good for half a minute yet
    offset = 601
    expect(await rp.accessToken(cookie)).toBeUndefined()
    expect(refreshed()).toEqual(['r0'])
    expect(log).toEqual([expect.objectContaining({ event: 'refresh_refused' })])
    expect((await ask(rp, 'GET', '/auth/session', { cookie })).status).toBe(200)
  })

  it('that is down is survived while the token lasts, then said so, and asked again when it is back', async () => {
    await start()
    const cookie = await signIn(lasting)
    offset = 571
    op.answers.set('/token', 'hang up')
    expect(await rp.accessToken(cookie)).toBe('a0')
    offset = 601
    await expect(rp.accessToken(cookie)).rejects.toMatchObject({ code: 'op_unreachable' })
    answerRefresh({ access_token: 'a1', expires_in: 600 })
    expect(await rp.accessToken(cookie)).toBe('a1')
  })

  it("that answers with somebody else's ID Token is refused [Core §12.2]", async () => {
    await start()
    const cookie = await signIn(lasting)
    offset = 601
    const iat = Math.floor(Date.now() / 1000)
    const claims = { iss: op.issuer, aud: 'notes', sub: 'grace', iat, exp: iat + 60 }
    answerRefresh({ access_token: 'a1', expires_in: 600, id_token: await op.mint(claims, { typ: 'JWT' }) })
    await expect(rp.accessToken(cookie)).rejects.toMatchObject({ code: 'op_answer_invalid' })
    const found = await sessions.listBySub('ada')
    expect(found).toHaveLength(1)
  })
})

describe('a logout while tokens are refreshed', () => {
  it('wins: no token is handed out, and both refresh tokens are revoked at the OP [T7]', async () => {
    await start()
    const cookie = await signIn(lasting)
    offset = 571
    answerRefresh({ access_token: 'a1', expires_in: 600, refresh_token: 'r1' })
    const { saveTokens } = sessions
    sessions.saveTokens = async (...saved) => {
      await sessions.endBy({ sid: 's' }, someNotice({ jtiExpiresAt: Infinity, watermarkExpiresAt: Infinity }))
      return saveTokens(...saved)
    }
    expect(await rp.accessToken(cookie)).toBeUndefined()
    const revoked = () => op.posted.filter(({ path }) => path === '/revoke').map(({ form }) => form.get('token'))
    await expect.poll(() => revoked().toSorted()).toEqual(['r0', 'r1'])
    expect((await ask(rp, 'GET', '/auth/session', { cookie })).status).toBe(401)
  })

  it('has also those with offline_access revoked that come after it, where it asked for that [T7]', async () => {
    await start()
    const cookie = await signIn({ ...lasting, scope: 'openid offline_access' })
    offset = 571
    answerRefresh({ access_token: 'a1', expires_in: 600, refresh_token: 'r1' })
    const { saveTokens } = sessions
    sessions.saveTokens = async (...saved) => {
      const kept = { jtiExpiresAt: Infinity, watermarkExpiresAt: Infinity }
      await sessions.endBy({ sid: 's' }, someNotice({ ...kept, revokeOffline: true }))
      return saveTokens(...saved)
    }
    expect(await rp.accessToken(cookie)).toBeUndefined()
    const revoked = () => op.posted.filter(({ path }) => path === '/revoke').map(({ form }) => form.get('token'))
    await expect.poll(() => revoked().toSorted()).toEqual(['r0', 'r1'])
  })
})

describe('a refresh that takes longer than another', () => {
  const faster = { tokens: 'sealed elsewhere', refreshToken: { sealed: 'the newer one', offline: false } }

  /** Makes another process save its tokens while the OP answers this one's refresh. */
  async function overtaken(): Promise<{ cookie: string; held: () => Promise<string | undefined> }> {
    await start()
    const cookie = await signIn(lasting)
    offset = 571
    const [session] = await sessions.listBySub('ada')
    const { saveTokens } = sessions
    let isFirst = true
    sessions.saveTokens = async (...saved) => {
      if (isFirst) expect(await saveTokens(session?.handle ?? '', faster, saved[2])).toBe('saved')
      isFirst = false
      return saveTokens(...saved)
    }
    return { cookie, held: async () => (await sessions.listBySub('ada'))[0]?.refreshToken?.sealed }
  }

  it('writes nothing over what the other has got', async () => {
    const { cookie, held } = await overtaken()
    answerRefresh({ access_token: 'late', expires_in: 600, refresh_token: 'late' })
    expect(await rp.accessToken(cookie)).toBeUndefined() // what the other sealed cannot be opened here
    expect(await held()).toBe('the newer one')
    expect(op.posted.filter(({ path }) => path === '/revoke')).toEqual([])
  })

  it('takes nothing away when the OP refuses the refresh token that the other has used up', async () => {
    const { cookie, held } = await overtaken()
    op.answers.set('/token', { status: 400, body: { error: 'invalid_grant' } })
    await rp.accessToken(cookie)
    expect(await held()).toBe('the newer one')
  })

  it('puts no old tokens back when the OP could not be reached', async () => {
    const { cookie, held } = await overtaken()
    op.answers.set('/token', 'hang up')
    await rp.accessToken(cookie)
    expect(await held()).toBe('the newer one')
  })
})

describe('the right to refresh', () => {
  it('lasts longer than the OP may take to be found and to answer, so that nobody asks with the same refresh token beside it', async () => {
    await start()
    const cookie = await signIn(lasting)
    offset = 571
    op.answers.set('/token', 'say nothing')
    const asked = expect(rp.accessToken(cookie)).rejects.toMatchObject({ code: 'op_unreachable' })
    await expect.poll(refreshed).toEqual(['r0'])
    const [session] = await sessions.listBySub('ada')
    for (offset = 571 + 9; offset <= 571 + 29; offset++) {
      expect(await sessions.claimRefresh(session?.handle ?? '', 1)).toBe(false)
    }
    offset = 571 + 31
    expect(await sessions.claimRefresh(session?.handle ?? '', 1)).toBe(true) // its holder may have crashed
    await asked
  }, 20_000)

  it('is not used by a process that stood still meanwhile: another has refreshed by then', async () => {
    await start()
    const cookie = await signIn(lasting)
    offset = 571
    answerRefresh({ access_token: 'a1', expires_in: 600, refresh_token: 'r1' })
    const { now } = sessions
    let goOn = (): void => {}
    const stood = new Promise<void>((stands) => {
      sessions.now = async () => {
        sessions.now = now
        await new Promise<void>((resolve) => {
          goOn = resolve
          stands()
        })
        return now()
      }
    })
    const slow = rp.accessToken(cookie)
    await stood
    offset += 31
    expect(await node().accessToken(cookie)).toBe('a1')
    goOn()
    expect(await slow).toBe('a1')
    expect(refreshed()).toEqual(['r0'])
  })
})

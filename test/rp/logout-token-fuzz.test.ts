import fc from 'fast-check'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { BACKCHANNEL_LOGOUT_EVENT } from '../../src/protocol/logout-token.ts'
import { createRelyingParty, type RelyingParty, type RpSessionStore } from '../../src/rp.ts'
import { memoryStore } from '../../src/rp-memory.ts'
import { world } from '../../src/runtime/runtime.ts'
import { opened, START, someSession, statesOf } from '../../src/testing/rp-store-bench.ts'
import { type FakeOp, startFakeOp } from './fake-op.ts'
import { ask, postForm } from './plain-request.ts'

/* Whatever is sent to the back-channel endpoint: it answers 200, or a 4xx, and ends nothing without a valid token. What is
   valid is written down here once more, from the text of the specification. */

let op: FakeOp
let rp: RelyingParty
let sessions: RpSessionStore
const runtime = { ...world, now: () => START * 1000 }

beforeAll(async () => {
  op = await startFakeOp()
})
afterAll(async () => {
  await rp.close()
  await op.close()
})
beforeEach(async () => {
  const store = memoryStore()
  await rp?.close()
  const appUrl = 'https://notes.example'
  rp = createRelyingParty({
    issuer: op.issuer,
    clientId: 'notes',
    clientSecret: 's',
    appUrl,
    store,
    runtime,
    log: () => {},
  })
  sessions = store.forClient({ issuer: op.issuer, clientId: 'notes' }, runtime)
})

const endpoint = '/auth/backchannel-logout'
let count = 0

/** Opens an RP session that the next token may name. */
async function fresh(): Promise<{ handle: string; good: Record<string, unknown> }> {
  const n = ++count
  const [handle = ''] = await opened(sessions, someSession({ handle: `h${n}`, sid: `sid ${n}`, sub: `sub ${n}` }))
  const good = {
    iss: op.issuer,
    aud: 'notes',
    iat: START,
    exp: START + 120,
    jti: `j${n}`,
    sub: `sub ${n}`,
    sid: `sid ${n}`,
    events: { [BACKCHANNEL_LOGOUT_EVENT]: {} },
  }
  return { handle, good }
}

const isAlive = async (handle: string) => (await statesOf(sessions, handle))[0] === 'alive'

/** Back-Channel §2.4 and §2.6, and what Lockstep adds by default: clocks differ by a minute, tokens age in ten. */
function isValid(claims: Record<string, unknown>, good: Record<string, unknown>): boolean {
  const { iss, aud, azp, iat, exp, nbf, toe, jti, sub, sid, events } = claims
  const isText = (value: unknown) => typeof value === 'string' && value.length > 0
  const isNumber = (value: unknown): value is number => typeof value === 'number'
  const isPast = (value: unknown) => value === undefined || (isNumber(value) && value <= START + 60)
  const event = (events as Record<string, unknown> | null | undefined)?.[BACKCHANNEL_LOGOUT_EVENT]
  return (
    iss === op.issuer &&
    [aud].flat().length > 0 &&
    [aud].flat().every((one) => one === 'notes') &&
    (azp === undefined || azp === 'notes') &&
    isNumber(iat) &&
    Math.abs(iat - START) <= 600 &&
    isNumber(exp) &&
    exp > START - 60 &&
    isPast(nbf) &&
    isPast(toe) &&
    isText(jti) &&
    !('nonce' in claims) &&
    (sub === undefined || sub === good.sub) &&
    (sid === undefined || sid === good.sid) &&
    (sub !== undefined || sid !== undefined) &&
    !Array.isArray(events) &&
    typeof event === 'object' &&
    event !== null &&
    !Array.isArray(event)
  )
}

const names = ['iss', 'aud', 'azp', 'iat', 'exp', 'nbf', 'toe', 'jti', 'sub', 'sid', 'events', 'nonce', 'constructor']
const times = fc.integer({ min: -900, max: 900 }).map((offset) => START + offset)
const oddity = fc.oneof(
  fc.jsonValue(),
  times,
  fc.constantFrom('notes', '', ['notes'], ['notes', 'mail'], [], {}, null, 0, -1, 1e300, 'sid 1', 'sub 1'),
  fc.dictionary(fc.constantFrom(BACKCHANNEL_LOGOUT_EVENT, 'x', '__proto__'), fc.jsonValue()),
)
/** A few claims that are something else, and a few that are missing. */
const changes = fc.record({
  set: fc.dictionary(fc.constantFrom(...names), oddity, { maxKeys: 3 }),
  drop: fc.subarray(names, { maxLength: 2 }),
})

describe('whatever is sent to the back-channel endpoint', () => {
  it('signed by the OP, it ends an RP session only if its claims are those of a Logout Token [A12, A24, A26-A37]', async () => {
    let ended = 0
    await fc.assert(
      fc.asyncProperty(changes, async ({ set, drop }) => {
        const { handle, good } = await fresh()
        const claims: Record<string, unknown> = Object.fromEntries(
          Object.entries({ ...good, ...set }).filter(([name]) => !drop.includes(name)),
        )
        const { status } = await postForm(rp, endpoint, { logout_token: await op.mint(claims, {}, 'RS256') })
        expect([200, 400, 413]).toContain(status)
        if (await isAlive(handle)) return
        ended += 1
        expect(status).toBe(200)
        expect(isValid(claims, good)).toBe(true)
      }),
      { numRuns: 500 },
    )
    expect(ended).toBeGreaterThan(0) // some changes change nothing
  })

  it('changed anywhere after it was signed, it ends nothing [A12, A16]', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.nat(),
        fc.constantFrom('A', 'z', '0', '-', '_', '.', '=', ' ', '\n'),
        fc.nat(2),
        async (at, letter, how) => {
          const { handle, good } = await fresh()
          const token = await op.mint(good)
          const place = at % token.length
          const rest = token.slice(how === 0 ? place : place + 1) // put in, put in place of, or take out
          const changed = token.slice(0, place) + (how === 2 ? '' : letter) + rest
          const bytes = (one: string) => one.split('.').map((part) => Buffer.from(part, 'base64url').toString('hex'))
          fc.pre(bytes(changed).join('.') !== bytes(token).join('.')) // the unused bits of the last letter mean nothing
          expect((await postForm(rp, endpoint, { logout_token: changed })).status).toBe(400)
          expect(await isAlive(handle)).toBe(true)
        },
      ),
      { numRuns: 200 },
    )
  })

  it('whatever its type and its bytes, it is answered with a 4xx and no-store [A7, A11, A12] [E28]', async () => {
    const { handle } = await fresh()
    const type = fc.constantFrom(
      'application/x-www-form-urlencoded',
      'application/x-www-form-urlencoded; charset=utf-16',
      'application/json',
      'multipart/form-data',
      '',
      ';',
    )
    const header = fc.jsonValue().map((value) => Buffer.from(JSON.stringify(value)).toString('base64url'))
    const jwt = fc.tuple(header, header, fc.base64String()).map((parts) => parts.join('.'))
    const piece = fc.oneof(fc.string({ unit: 'binary', maxLength: 2000 }), jwt, fc.constantFrom('%', '%zz', '%ff%00'))
    const body = fc.oneof(
      piece,
      piece.map((token) => `logout_token=${token}`),
      piece.map((token) => `logout_token=${encodeURIComponent(token.toWellFormed())}`),
    )
    await fc.assert(
      fc.asyncProperty(type, body, async (contentType, text) => {
        const answer = await ask(rp, 'POST', endpoint, { 'content-type': contentType }, text)
        expect([400, 413, 415]).toContain(answer.status)
        expect(answer.headers['cache-control']).toBe('no-store')
      }),
      { numRuns: 1000 },
    )
    expect(await isAlive(handle)).toBe(true)
  })
})

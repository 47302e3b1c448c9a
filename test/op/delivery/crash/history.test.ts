import { describe, expect, it } from 'vitest'
import { type History, type Received, violationsOf } from './history.ts'

const second = 1000
const start = 1_800_000_000_000

/** Two RPs, one OP session that ended and one that did not. */
const good: History = {
  rpSessions: [
    { clientId: 'notes', sid: 'n1', uid: 'ended' },
    { clientId: 'mail', sid: 'm1', uid: 'ended' },
    { clientId: 'notes', sid: 'n2', uid: 'stays' },
  ],
  asked: new Map([['ended', start]]),
  acknowledged: new Set(['ended']),
  received: [
    received('notes', 'n1', 'jti-1', 1),
    received('mail', 'm1', 'jti-2', 1),
    received('mail', 'm1', 'jti-3', 9),
  ],
  alive: new Set(['notes n2']),
  mayOverlap: false,
}

/** A POST that came so many seconds after the start and was answered within one. */
function received(by: string, sid: string, jti: string, after: number): Received {
  const iat = start / second + after
  return {
    at: start + after * second,
    until: start + (after + 1) * second,
    by,
    claims: { sid, jti, iat, exp: iat + 120, toe: start / second },
  }
}

const [first, ...others] = good.received as [Received, ...Received[]]
const says = (claims: Record<string, unknown>): History => ({
  ...good,
  received: [{ ...first, claims: { ...first.claims, ...claims } }, ...others],
})

describe('the history checker', () => {
  it('finds nothing in a history without a fault', () => {
    expect(violationsOf(good)).toEqual([])
  })

  it('lets a logout that was asked for and never confirmed end either way', () => {
    expect(violationsOf({ ...good, acknowledged: new Set() })).toEqual([])
    const untold = { received: [], alive: new Set(['notes n1', 'mail m1', 'notes n2']) }
    expect(violationsOf({ ...good, acknowledged: new Set(), ...untold })).toEqual([])
  })

  const planted: readonly (readonly [string, History, RegExp])[] = [
    ['an RP that was never told', { ...good, received: others }, /^lost: ended .*notes n1 was never told/],
    ['an RP that refused the only token', { ...good, received: [{ ...first, fault: 'iss' }, ...others] }, /never told/],
    [
      'an RP session that lives on',
      { ...good, alive: new Set(['notes n1', 'notes n2']) },
      /^lost: .*notes n1 is alive/,
    ],
    ['an RP session that died by itself', { ...good, alive: new Set() }, /^false logout: notes n2 is gone/],
    [
      'an RP that was told of what nobody ended',
      { ...good, received: [...good.received, received('notes', 'n2', 'jti-4', 2)] },
      /^false logout: notes n2 was told/,
    ],
    [
      'an RP that was told too early',
      { ...good, asked: new Map([['ended', start + 5 * second]]) },
      /before anybody asked/,
    ],
    ["an RP that got another one's sid", says({ sid: 'm1' }), /^wrong token: notes got the sid m1/],
    ['a token without a sid', says({ sid: undefined }), /^wrong token: notes got the sid \(undefined\)/],
    [
      'a token that did not verify',
      { ...good, received: [{ ...first, fault: 'bad signature' }, ...others] },
      /bad signature/,
    ],
    ['a jti that came twice', says({ jti: 'jti-2' }), /jti jti-2 came twice/],
    ['a token that had expired', says({ iat: start / second - 300, exp: start / second - 180, toe: 0 }), /had expired/],
    ['a token that lives for an hour', says({ exp: start / second + 3600 }), /from \d+ to \d+/],
    ['a token without an end', says({ exp: undefined }), /from \d+ to undefined/],
    ['a toe of before the logout', says({ toe: start / second - 1 }), /before the logout/],
    ['a toe of after the token', says({ toe: start / second + 50 }), /toe \d+, iat \d+/],
    [
      'a toe that is another on each attempt',
      {
        ...good,
        received: [
          ...good.received.slice(0, 2),
          { ...third(), claims: { ...third().claims, toe: start / second + 1 } },
        ],
      },
      /told of two times/,
    ],
    [
      'two attempts at once',
      { ...good, received: [...good.received.slice(0, 2), { ...third(), at: start + 1.5 * second }] },
      /^two live attempts: mail m1/,
    ],
  ]
  it.each(planted)('finds %s', (_what, history, sentence) => {
    expect(violationsOf(history)).toContainEqual(expect.stringMatching(sentence))
  })

  it('does not mind two attempts at once where the first sender was frozen', () => {
    const received = [...good.received.slice(0, 2), { ...third(), at: start + 1.5 * second }]
    expect(violationsOf({ ...good, received, mayOverlap: true })).toEqual([])
  })
})

function third(): Received {
  return good.received[2] ?? expect.unreachable()
}

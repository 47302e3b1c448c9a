import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type AliveDocument, type Belief, decide, type Telling } from '../../src/browser/decide.ts'
import type { SessionDocument, SessionEnd } from '../../src/protocol/session-document.ts'

const now = 1_800_000_000_500
const s1: AliveDocument = { state: 'alive', session: 's1', sub: 'ada', client_id: 'notes', expires_at: 1_900_000_000 }
const s2: AliveDocument = { ...s1, session: 's2' }
const s3: AliveDocument = { ...s1, session: 's3', sub: 'grace' }
const end: SessionEnd = { cause: 'logout_token', at: 1_800_000_000 }
const none: SessionDocument = { state: 'none' }
const endOf = (session: string, ended: SessionEnd = end): SessionDocument => ({ state: 'ended', session, ended })

const fresh: Belief = { state: 'unknown', session: undefined }
const doubtful: Belief = { state: 'unknown', session: s1 }
const alive: Belief = { state: 'alive', session: s1 }
const anonymous: Belief = { state: 'none' }
const over: Belief = { state: 'ended' }
const gone: SessionEnd = { cause: 'expired', at: 1_800_000_000 }
const switched: SessionEnd = { cause: 'user_switched', at: 1_800_000_000 }

const table: readonly [string, Belief, SessionDocument | undefined, Belief, readonly Telling[]][] = [
  ['fresh, alive', fresh, s1, alive, [{ type: 'alive', session: s1 }]],
  ['fresh, none', fresh, none, anonymous, []],
  ['fresh, ended', fresh, endOf('s1'), over, [{ type: 'ended', session: 's1', ended: end }]],
  ['fresh, silence', fresh, undefined, fresh, [{ type: 'unknown' }]],
  ['alive, the same', alive, s1, alive, [{ type: 'alive', session: s1 }]],
  [
    'alive, a new login of the same End-User',
    alive,
    s2,
    { state: 'alive', session: s2 },
    [{ type: 'alive', session: s2 }],
  ],
  [
    'alive, another End-User',
    alive,
    s3,
    over,
    [
      { type: 'userswitched', sub: 'grace' },
      { type: 'ended', session: 's1', ended: switched },
    ],
  ],
  ['alive, its end', alive, endOf('s1'), over, [{ type: 'ended', session: 's1', ended: end }]],
  [
    'alive, the end of the one that replaced it',
    alive,
    endOf('s2'),
    over,
    [{ type: 'ended', session: 's1', ended: end }],
  ],
  [
    'alive, ended by another End-User',
    alive,
    endOf('s1', switched),
    over,
    [
      { type: 'userswitched', sub: undefined },
      { type: 'ended', session: 's1', ended: switched },
    ],
  ],
  ['alive, none', alive, none, over, [{ type: 'ended', session: 's1', ended: gone }]],
  ['alive, silence', alive, undefined, doubtful, [{ type: 'unknown' }]],
  ['doubtful, alive', doubtful, s1, alive, [{ type: 'alive', session: s1 }]],
  ['doubtful, none', doubtful, none, over, [{ type: 'ended', session: 's1', ended: gone }]],
  ['doubtful, silence', doubtful, undefined, doubtful, [{ type: 'unknown' }]],
  ['anonymous, alive', anonymous, s1, alive, [{ type: 'alive', session: s1 }]],
  ['anonymous, none', anonymous, none, anonymous, []],
  ['anonymous, ended', anonymous, endOf('s1'), anonymous, []],
  ['anonymous, silence', anonymous, undefined, anonymous, []],
  ['over, alive', over, s1, over, []],
  ['over, ended', over, endOf('s2'), over, []],
  ['over, none', over, none, over, []],
  ['over, silence', over, undefined, over, []],
]

describe('what a tab believes after it has heard something', () => {
  it.each(table)('%s', (_, belief, heard, next, tell) => {
    expect(decide(belief, heard, now)).toEqual({ belief: next, tell })
  })
})

const heard: fc.Arbitrary<SessionDocument | undefined> = fc.oneof(
  fc.constant(undefined),
  fc.constant(none),
  fc.constantFrom(s1, s2, s3),
  fc.constantFrom('s1', 's2', 's3').map((session) => endOf(session)),
)

describe('what a page believes that says whom it was rendered for', () => {
  it('is signed out when nobody is signed in any more', () => {
    expect(decide(fresh, none, now, 'ada').tell).toEqual([{ type: 'ended', session: '', ended: gone }])
    expect(decide(doubtful, none, now, 'ada').tell).toEqual([{ type: 'ended', session: 's1', ended: gone }])
  })

  it('is signed out when somebody else is signed in', () => {
    expect(decide(fresh, s3, now, 'ada').tell).toEqual([
      { type: 'userswitched', sub: 'grace' },
      { type: 'ended', session: '', ended: switched },
    ])
  })

  it('is alive when the same End-User is, and unknown in silence', () => {
    expect(decide(fresh, s1, now, 'ada')).toEqual({ belief: alive, tell: [{ type: 'alive', session: s1 }] })
    expect(decide(fresh, undefined, now, 'ada')).toEqual({ belief: fresh, tell: [{ type: 'unknown' }] })
  })

  it('says which RP session ended where the backend does', () => {
    expect(decide(fresh, endOf('s1'), now, 'ada').tell).toEqual([{ type: 'ended', session: 's1', ended: end }])
  })
})

describe('whatever a tab hears, in whatever order', () => {
  it('says ended at most once, and nothing after it', () => {
    fc.assert(
      fc.property(fc.array(heard), (story) => {
        const told = tell(story).map(({ type }) => type)
        const first = told.indexOf('ended')
        expect(first === -1 || first === told.length - 1).toBe(true)
      }),
    )
  })

  it('says ended only because of a document that contradicts what it believed', () => {
    fc.assert(
      fc.property(fc.array(heard), (story) => {
        let belief: Belief = fresh
        for (const document of story) {
          const { belief: next, tell } = decide(belief, document, now)
          if (tell.some(({ type }) => type === 'ended')) {
            expect(document).toBeDefined()
            if (document?.state === 'alive') expect(document.sub).not.toBe(belief.session?.sub)
          }
          belief = next
        }
      }),
    )
  })

  it('never ends by silence alone', () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom(undefined, s1, s2)), (story) => {
        expect(tell(story).map(({ type }) => type)).not.toContain('ended')
      }),
    )
  })

  it('always ends a page that was alive when the backend calls its session ended', () => {
    fc.assert(
      fc.property(fc.array(heard), (story) => {
        const told = tell([s1, ...story, endOf('s1')]).map(({ type }) => type)
        expect(told.filter((type) => type === 'ended')).toHaveLength(1)
      }),
    )
  })

  function tell(story: readonly (SessionDocument | undefined)[]): readonly Telling[] {
    let belief: Belief = fresh
    return story.flatMap((document) => {
      const decision = decide(belief, document, now)
      belief = decision.belief
      return decision.tell
    })
  }
})

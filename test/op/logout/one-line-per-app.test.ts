import { describe, expect, it } from 'vitest'
import { oneLinePerApp } from '../../../src/op/logout/one-line-per-app.ts'
import type { ReceiptApp } from '../../../src/op/logout/receipts.ts'

const notes: ReceiptApp = {
  clientId: 'notes',
  app: 'Notes',
  mechanism: 'backchannel',
  state: 'delivered',
  plannedAt: 0,
  attempts: 1,
}

/** From the best that can be known of an app to the worst. */
const outcomes: readonly Partial<ReceiptApp>[] = [
  {},
  { flag: 'unusual_answer' },
  { flag: 'ended_nothing' },
  { state: 'unknown' },
  { state: 'in-flight' },
  { state: 'due', attempts: 0 },
  { state: 'due' },
  { state: 'refused' },
  { state: 'dead' },
]

describe('of two notices to one app', () => {
  const pairs = outcomes.flatMap((better, i) => outcomes.slice(i).map((worse) => ({ better, worse })))

  it.each(pairs)('$better and $worse show as the second, whichever comes first', ({ better, worse }) => {
    const [one, other] = [
      { ...notes, ...better },
      { ...notes, ...worse },
    ]
    expect(oneLinePerApp([one, other])).toEqual([other])
    expect(oneLinePerApp([other, one])).toEqual([other])
  })

  it('the RP sessions they ended are added up, where the app has said how many', () => {
    const [first, second] = [
      { ...notes, sessionsEnded: 1 },
      { ...notes, sessionsEnded: 2 },
    ]
    expect(oneLinePerApp([first, notes, second])).toEqual([{ ...notes, sessionsEnded: 3 }])
  })
})

it('apps that have the same name for people stay apart, and stand by name', () => {
  const twin = { ...notes, clientId: 'other' }
  const mail = { ...notes, clientId: 'mail', app: 'Mail' }
  expect(oneLinePerApp([notes, twin, mail])).toEqual([mail, notes, twin])
})

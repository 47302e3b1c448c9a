import { describe, expect, it } from 'vitest'
import { followLogout, type LogoutProgress, leaveInTime } from '../../src/browser/logout-page.ts'

const never = new Promise<void>(() => {})
const state = { mark: 'later', says: 'Next try in 2 s' }

describe('a page with frames', () => {
  it('is left as soon as all of them have loaded [RPI-3-d]', async () => {
    let left = 0
    await leaveInTime(3, { loaded: Promise.resolve(), pause: () => never, leave: () => left++ })
    expect(left).toBe(1)
  })

  it('is left after its time when one never loads [FCL-4.1-a]', async () => {
    const paused: number[] = []
    let left = 0
    const pause = async (ms: number): Promise<void> => void paused.push(ms)
    await leaveInTime(3, { loaded: never, pause, leave: () => left++ })
    expect([left, paused]).toEqual([1, [3000]])
  })
})

describe('the signed-out page', () => {
  /** Lets the OP give these answers, one after the other, and notes what the page does. */
  async function follow(answers: (LogoutProgress | 'gone' | undefined)[]): Promise<string[]> {
    const steps: string[] = []
    await followLogout(2, {
      pause: async (ms) => void steps.push(`wait ${ms}`),
      ask: async () => answers.shift(),
      paint: ({ heading }) => void steps.push(heading),
    })
    return steps
  }

  it('asks and paints until nothing changes any more, as often as the OP says', async () => {
    const steps = await follow([
      { heading: 'one', again: 5, apps: [state] },
      { heading: 'two', apps: [state] },
    ])
    expect(steps).toEqual(['wait 2000', 'one', 'wait 5000', 'two'])
  })

  it('goes on asking an OP that cannot answer right now, and changes nothing meanwhile', async () => {
    expect(await follow([undefined, undefined, { heading: 'back', apps: [] }])).toEqual([
      'wait 2000',
      'wait 2000',
      'wait 2000',
      'back',
    ])
  })

  it('stops when the OP does not show it any more [T14]', async () => {
    expect(await follow([{ heading: 'one', again: 2, apps: [state] }, 'gone'])).toEqual([
      'wait 2000',
      'one',
      'wait 2000',
    ])
  })
})

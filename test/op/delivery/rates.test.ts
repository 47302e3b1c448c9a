import { describe, expect, it } from 'vitest'
import { createRates } from '../../../src/op/delivery/rates.ts'
import { second } from '../../../src/runtime/milliseconds.ts'

const start = 1_800_000_000_000

/** When something is done that is always wanted, in milliseconds since the start. */
function times(rates: ReturnType<typeof createRates>, until: number): number[] {
  const done: number[] = []
  for (let now = start; now < start + until; ) {
    while (rates.room('a', now) > 0) {
      rates.take('a', now)
      done.push(now - start)
    }
    const next = rates.nextAt('a', now)
    expect(next).toBeGreaterThan(now)
    now = next
  }
  return done
}

const perSecond = (done: readonly number[]): number[] => {
  const counts: number[] = []
  for (const at of done) counts[Math.floor(at / second)] = (counts[Math.floor(at / second)] ?? 0) + 1
  return counts
}

describe('a rate', () => {
  it('allows so many a second, few of them at once', () => {
    const done = times(createRates(100), 3 * second)
    expect(done.filter((at) => at === 0)).toHaveLength(10)
    for (const count of perSecond(done).slice(1)) expect(count).toBeLessThanOrEqual(100)
    expect(done.length).toBeGreaterThanOrEqual(300)
  })

  it('can be below one a second', () => {
    expect(times(createRates(0.1), 25 * second)).toEqual([0, 10_000, 20_000])
  })

  it('doubles each second after it began again', () => {
    const rates = createRates(10)
    rates.take('a', start)
    rates.ramp('a', start)
    expect(perSecond(times(rates, 6 * second))).toEqual([1, 2, 4, 8, 10, 10])
  })

  it('lets what was done beyond it be waited for', () => {
    const rates = createRates(10)
    for (let i = 0; i < 20; i++) rates.take('a', start)
    expect(rates.room('a', start)).toBe(0)
    expect(rates.nextAt('a', start)).toBe(start + 2 * second)
    expect(rates.room('a', start + 2 * second)).toBe(1)
  })

  it('is one for each name, and stays where it is while many others come and go', () => {
    const rates = createRates(1)
    rates.take('a', start)
    expect(rates.room('b', start)).toBe(1)
    for (let i = 0; i < 5000; i++) rates.take(`x${i}`, start - 10 * second)
    expect(rates.room('a', start)).toBe(0)
  })
})

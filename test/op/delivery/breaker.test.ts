import { describe, expect, it } from 'vitest'
import { createBreakers, type Trouble } from '../../../src/op/delivery/breaker.ts'
import { mostKept } from '../../../src/op/latest.ts'
import { second } from '../../../src/runtime/milliseconds.ts'

const failure = (trouble: Trouble, deliveryId = 'd'): { deliveryId: string; trouble: Trouble } => ({
  deliveryId,
  trouble,
})

describe('the breaker of an RP', () => {
  it('opens at the third failure in a row and closes with an answer', () => {
    const breakers = createBreakers(() => 0)
    expect(breakers.failed('rp', failure('silent'), 0)).toBe(false)
    expect(breakers.failed('rp', failure('silent'), 0)).toBe(false)
    expect(breakers.isOpen('rp')).toBe(false)
    expect(breakers.failed('rp', failure('silent'), 0)).toBe(true)
    expect(breakers.isOpen('rp')).toBe(true)
    expect(breakers.failed('rp', failure('silent'), 0)).toBe(false)
    expect(breakers.isOpen('other')).toBe(false)
    expect(breakers.answered('rp')).toBe(true)
    expect(breakers.isOpen('rp')).toBe(false)
    expect(breakers.answered('rp')).toBe(false)
  })

  it('starts to count anew after an answer', () => {
    const breakers = createBreakers(() => 0)
    for (let i = 0; i < 2; i++) breakers.failed('rp', failure('silent'), 0)
    breakers.answered('rp')
    for (let i = 0; i < 2; i++) breakers.failed('rp', failure('silent'), 0)
    expect(breakers.isOpen('rp')).toBe(false)
  })

  it('does not open because one delivery gets an error again and again', () => {
    const breakers = createBreakers(() => 0)
    for (let i = 0; i < 10; i++) breakers.failed('rp', failure('error', 'poison'), 0)
    expect(breakers.isOpen('rp')).toBe(false)
    breakers.failed('rp', failure('error', 'second'), 0)
    breakers.failed('rp', failure('error', 'third'), 0)
    expect(breakers.isOpen('rp')).toBe(true)
  })

  it('probes as often as 1 % of the outage where nobody listens: 2 to 15 seconds, after an hour up to a minute', () => {
    const breakers = createBreakers(() => 0)
    for (let i = 0; i < 3; i++) breakers.failed('rp', failure('silent'), 0)
    const pauses: [number, number][] = []
    for (let now = 0; now < 2 * 3600 * second; ) {
      const at = breakers.nextProbeAt(now) as number
      pauses.push([now / second, (at - now) / second])
      expect(breakers.takeProbes(at - 1)).toEqual([])
      expect(breakers.takeProbes(at)).toEqual(['rp'])
      breakers.failed('rp', failure('silent'), at)
      now = at
    }
    for (const [outage, pause] of pauses) {
      if (outage >= 3600) expect(pause).toBeCloseTo(Math.min(outage / 100, 60))
      else if (outage < 200) expect(pause).toBe(2)
      else if (outage < 1500) expect(pause).toBeCloseTo(outage / 100)
      else expect(pause).toBe(15)
    }
  })

  it.each(['overloaded', 'error'] as const)('probes an RP in trouble (%s) every 15 seconds to a minute', (trouble) => {
    const breakers = createBreakers(() => 0)
    for (let i = 0; i < 3; i++) breakers.failed('rp', failure(trouble, `d${i}`), 0)
    expect(breakers.nextProbeAt(0)).toBe(15 * second)
    breakers.failed('rp', failure(trouble), 3000 * second)
    expect(breakers.nextProbeAt(0)).toBe(3030 * second)
    breakers.failed('rp', failure(trouble), 90_000 * second)
    expect(breakers.nextProbeAt(0)).toBe(90_060 * second)
  })

  it('does not probe before the RP wants to be asked again', () => {
    const breakers = createBreakers(() => 0)
    for (let i = 0; i < 3; i++) breakers.failed('rp', { ...failure('overloaded'), notBefore: 3_600_000 }, 0)
    expect(breakers.nextProbeAt(0)).toBe(3_600_000)
  })

  it('does not forget that when attempts beside it fail otherwise, nor when it is said before the breaker opens', () => {
    const breakers = createBreakers(() => 0)
    breakers.failed('rp', { ...failure('overloaded'), notBefore: 3_600_000 }, 0)
    for (let i = 0; i < 2; i++) breakers.failed('rp', failure('silent'), 0)
    expect(breakers.nextProbeAt(0)).toBe(3_600_000)
    breakers.failed('rp', { ...failure('overloaded'), notBefore: 60_000 }, 0)
    expect(breakers.nextProbeAt(0)).toBe(3_600_000)
    breakers.answered('rp')
    for (let i = 0; i < 3; i++) breakers.failed('rp', failure('silent'), 0)
    expect(breakers.nextProbeAt(0)).toBe(2 * second)
  })

  it('forgets that when the clock is set back: the time it was said for may be far away', () => {
    const breakers = createBreakers(() => 0)
    for (let i = 0; i < 3; i++) breakers.failed('rp', { ...failure('silent'), notBefore: 3_600_000 }, 0)
    breakers.failed('other', { ...failure('silent'), notBefore: 3_600_000 }, 0)
    breakers.startOver(-3_600_000)
    for (const rp of ['rp', 'other', 'other', 'other']) breakers.failed(rp, failure('silent'), -3_600_000)
    const at = -3_600_000 + 2 * second
    expect(breakers.nextProbeAt(-3_600_000)).toBe(at)
    expect(breakers.takeProbes(at)).toEqual(['rp', 'other'])
  })

  it('forgets failures of long ago where very many RPs fail, and never that an RP is down', () => {
    const breakers = createBreakers(() => 0)
    for (let i = 0; i < 3; i++) breakers.failed('down', failure('silent'), 0)
    for (let i = 0; i < 2; i++) breakers.failed('rp', failure('silent'), 0)
    for (let i = 0; i < mostKept; i++) breakers.failed(`other-${i}`, failure('silent'), 0)
    expect(breakers.failed('rp', failure('silent'), 0)).toBe(false)
    expect(breakers.isOpen('down')).toBe(true)
    expect(breakers.countOpen()).toBe(1)
  })

  it('has nobody to probe once it was told to forget', () => {
    const breakers = createBreakers(() => 0)
    for (let i = 0; i < 3; i++) breakers.failed('rp', failure('silent'), 0)
    breakers.forget('rp')
    expect(breakers.nextProbeAt(0)).toBeUndefined()
    expect(breakers.takeProbes(Number.MAX_SAFE_INTEGER)).toEqual([])
  })

  it('leaves a part of each pause to chance, never more than the pause', () => {
    const pauses = [0, 0.5, 0.999].map((chance) => {
      const breakers = createBreakers(() => chance)
      for (let i = 0; i < 3; i++) breakers.failed('rp', failure('silent'), 0)
      return breakers.nextProbeAt(0)
    })
    expect(pauses).toEqual([2000, 1800, 1600])
  })

  it('lets no more than 50 probes a second out, however many RPs are down, and each has its turn', () => {
    const breakers = createBreakers(() => 0)
    const down = Array.from({ length: 3000 }, (_, i) => `rp-${i}`)
    for (const rp of down) for (let i = 0; i < 3; i++) breakers.failed(rp, failure('silent'), 0)
    const probed: { readonly rp: string; readonly at: number }[] = []
    breakers.probeNow(0)
    for (let now = 0; now < 120 * second; now = Math.max(breakers.nextProbeAt(now) ?? Number.NaN, now + 1)) {
      for (const rp of breakers.takeProbes(now)) {
        probed.push({ rp, at: now })
        breakers.failed(rp, failure('silent'), now)
      }
    }
    const perSecond = new Map<number, number>()
    for (const { at } of probed)
      perSecond.set(Math.floor(at / second), (perSecond.get(Math.floor(at / second)) ?? 0) + 1)
    expect(Math.max(...perSecond.values())).toBeLessThanOrEqual(55) // a tenth may come at once
    expect(new Set(probed.slice(0, 3000).map(({ rp }) => rp)).size).toBe(3000)
    breakers.probeNow(121 * second, 'rp-7')
    expect(breakers.takeProbes(121 * second)[0]).toBe('rp-7')
  })
})

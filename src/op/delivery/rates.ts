/** How often something may be done, by name. Times are epoch milliseconds. */
export interface Rates {
  /** How many may be done now. */
  room(name: string, now: number): number
  /** One is done: also where there is no room, and then the next waits for longer. */
  take(name: string, now: number): void
  /** One that was taken was not done. */
  giveBack(name: string, now: number): void
  /** From when on there is room for one. */
  nextAt(name: string, now: number): number
  /** Begins again at 1 a second, and doubles every second up to the rate. */
  ramp(name: string, now: number): void
}

interface Rate {
  /** Up to when the rate is used up. */
  takenUntil: number
  rampFrom?: number
}

/** At most `perSecond` a second for each name, a tenth of them (and one at least) at once; kept in memory. */
export function createRates(perSecond: number): Rates {
  const rates = new Map<string, Rate>()
  let pruneAt = 1000

  /** What is allowed now: milliseconds between two, and how many at once. */
  function paceOf(rate: Rate | undefined, now: number): { every: number; atOnce: number } {
    let allowed = perSecond
    if (rate?.rampFrom !== undefined) {
      allowed = Math.min(2 ** Math.floor((now - rate.rampFrom) / 1000), perSecond)
      if (allowed === perSecond) delete rate.rampFrom
    }
    return { every: 1000 / allowed, atOnce: Math.ceil(allowed / 10) }
  }

  function rateOf(name: string, now: number): Rate {
    const known = rates.get(name)
    if (known) return known
    if (rates.size >= pruneAt) {
      for (const [idle, { takenUntil, rampFrom }] of rates) {
        if (takenUntil <= now && rampFrom === undefined) rates.delete(idle)
      }
      pruneAt = Math.max(1000, 2 * rates.size)
    }
    const made: Rate = { takenUntil: now }
    rates.set(name, made)
    return made
  }

  return {
    room(name, now) {
      const rate = rates.get(name)
      const { every, atOnce } = paceOf(rate, now)
      const taken = Math.max((rate?.takenUntil ?? now) - now, 0) / every
      return Math.max(Math.floor(atOnce - taken + 1e-6), 0)
    },

    take(name, now) {
      const rate = rateOf(name, now)
      rate.takenUntil = Math.max(rate.takenUntil, now) + paceOf(rate, now).every
    },

    giveBack(name, now) {
      const rate = rates.get(name)
      if (rate) rate.takenUntil -= paceOf(rate, now).every
    },

    nextAt(name, now) {
      const rate = rates.get(name)
      const { every, atOnce } = paceOf(rate, now)
      return Math.max(Math.ceil((rate?.takenUntil ?? now) - (atOnce - 1) * every), now)
    },

    ramp(name, now) {
      const rate = rateOf(name, now)
      rate.rampFrom = now
      rate.takenUntil = now
    },
  }
}

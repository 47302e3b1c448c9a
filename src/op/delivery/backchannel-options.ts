import { isPositive } from '../positive.ts'

/** How Logout Tokens are delivered. */
export interface BackchannelOptions {
  /** Seconds to wait for one RP before the attempt counts as failed. Default 5. */
  timeout?: number
  /** Seconds to keep trying before a delivery is dead. Default 259,200 (72 h: a weekend). */
  horizon?: number
  /** Attempts under way at the same time, all RPs together. Default 128: sockets, not work; signing is the work. */
  concurrency?: number
  /** Attempts under way at the same time at one RP. Default 8: one that hangs holds no more than these, for `timeout`. */
  concurrencyPerRp?: number
  /**
   * Attempts a second at one RP, for each node. Default 250, what `sweep.perSecond` ends. An RP that is back gets 1 in the first second, then 2, 4,
   * ... up to this.
   */
  ratePerRp?: number
  /** Whose attempts come out of the four budgets below (T8): clients that registered themselves, or all. Default `registered`. */
  budgets?: 'registered' | 'all'
  /** Attempts a second at one origin, and at one connected address, of all these clients together. Default 20. */
  ratePerHost?: number
  /** Attempts in any hour at a client, and at a URI, that has never answered with success. Default 10; half of them at once. */
  unansweredPerHour?: number
  /** The same for all such URIs of one origin together. Default 30. */
  unansweredPerOrigin?: number
  /** The same for all such URIs that lead to one address. Default 100. */
  unansweredPerAddress?: number
  /** Seconds `stop()` waits for attempts under way. Default 5. */
  stopTimeout?: number
}

/** Checks the options and fills in the defaults; a wrong one is a `TypeError` that names it. */
export function resolveBackchannelOptions(options: BackchannelOptions = {}): Required<BackchannelOptions> {
  const resolved: Required<BackchannelOptions> = {
    timeout: 5,
    horizon: 259_200,
    concurrency: 128,
    concurrencyPerRp: 8,
    ratePerRp: 250,
    budgets: 'registered',
    ratePerHost: 20,
    unansweredPerHour: 10,
    unansweredPerOrigin: 30,
    unansweredPerAddress: 100,
    stopTimeout: 5,
    ...options,
  }
  const { timeout, horizon, concurrency, concurrencyPerRp, stopTimeout, budgets } = resolved
  const unknown = Object.keys(resolved).find((name) => !KNOWN.has(name))
  if (unknown !== undefined) throw new TypeError(`backchannel.${unknown} is not an option`)
  if (!(isPositive(timeout) && timeout <= 600))
    throw new TypeError('backchannel.timeout must be more than 0 and at most 600 seconds')
  if (!(isPositive(horizon) && horizon >= timeout))
    throw new TypeError('backchannel.horizon must be at least backchannel.timeout')
  if (!isCount(concurrency)) throw new TypeError('backchannel.concurrency must be a positive whole number')
  if (!isCount(concurrencyPerRp)) throw new TypeError('backchannel.concurrencyPerRp must be a positive whole number')
  for (const name of ['ratePerRp', 'ratePerHost'] as const) {
    if (!(isPositive(resolved[name]) && resolved[name] < Number.POSITIVE_INFINITY))
      throw new TypeError(`backchannel.${name} must be a positive number`)
  }
  for (const name of ['unansweredPerHour', 'unansweredPerOrigin', 'unansweredPerAddress'] as const) {
    if (!isCount(resolved[name])) throw new TypeError(`backchannel.${name} must be a positive whole number`)
  }
  if (budgets !== 'registered' && budgets !== 'all')
    throw new TypeError('backchannel.budgets must be "registered" or "all"')
  if (!(isPositive(stopTimeout) || stopTimeout === 0))
    throw new TypeError('backchannel.stopTimeout must be a number of seconds, not negative')
  return resolved
}

const KNOWN: ReadonlySet<string> = new Set([
  'timeout',
  'horizon',
  'concurrency',
  'concurrencyPerRp',
  'ratePerRp',
  'budgets',
  'ratePerHost',
  'unansweredPerHour',
  'unansweredPerOrigin',
  'unansweredPerAddress',
  'stopTimeout',
] satisfies (keyof BackchannelOptions)[])

function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value > 0
}

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
  /** Waiting deliveries a second that are brought forward for an RP that is back, or after a restart. Default 50. */
  rampPerSecond?: number
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
    rampPerSecond: 50,
    stopTimeout: 5,
    ...options,
  }
  const { timeout, horizon, concurrency, concurrencyPerRp, rampPerSecond, stopTimeout } = resolved
  const unknown = Object.keys(resolved).find((name) => !KNOWN.has(name))
  if (unknown !== undefined) throw new TypeError(`backchannel.${unknown} is not an option`)
  if (!(timeout > 0 && timeout <= 600))
    throw new TypeError('backchannel.timeout must be more than 0 and at most 600 seconds')
  if (!(horizon >= timeout)) throw new TypeError('backchannel.horizon must be at least backchannel.timeout')
  if (!isCount(concurrency)) throw new TypeError('backchannel.concurrency must be a positive whole number')
  if (!isCount(concurrencyPerRp)) throw new TypeError('backchannel.concurrencyPerRp must be a positive whole number')
  if (!(rampPerSecond > 0)) throw new TypeError('backchannel.rampPerSecond must be a positive number')
  if (!(stopTimeout >= 0)) throw new TypeError('backchannel.stopTimeout must be a number of seconds, not negative')
  return resolved
}

const KNOWN: ReadonlySet<string> = new Set([
  'timeout',
  'horizon',
  'concurrency',
  'concurrencyPerRp',
  'rampPerSecond',
  'stopTimeout',
] satisfies (keyof BackchannelOptions)[])

function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value > 0
}

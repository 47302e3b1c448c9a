import { isPositive } from './positive.ts'

/** How OP sessions are ended that nobody ends by hand: expired ones, and those of `opSessions.endAll`. */
export interface SweepOptions {
  /** Seconds between two looks for OP sessions that have expired. Default 60. */
  interval?: number
  /** OP sessions ended in one transaction, which logins have to wait for. Default 10. */
  batch?: number
  /** OP sessions of `endAll` ended each second, on all nodes together. Default 250: RPs have to bear it. Fewer where a batch takes long. */
  perSecond?: number
}

/** How long what happened is kept (T30). */
export interface RetentionOptions {
  /** Seconds each attempt at a delivery is kept. Default 2,592,000 (30 days). */
  attempts?: number
  /** Seconds the fact of a logout is kept with its deliveries: the audit. Default 31,536,000 (365 days). */
  logouts?: number
}

/** Checks the options and fills in the defaults; a wrong one is a `TypeError` that names it. */
export function resolveSweepOptions(options: SweepOptions = {}): Required<SweepOptions> {
  const resolved = { interval: 60, batch: 10, perSecond: 250, ...options }
  refuseUnknown('sweep', resolved, ['interval', 'batch', 'perSecond'])
  if (!(isPositive(resolved.interval) && resolved.interval <= 86_400)) {
    throw new TypeError('sweep.interval must be more than 0 and at most 86,400 seconds')
  }
  if (!(Number.isSafeInteger(resolved.batch) && resolved.batch > 0 && resolved.batch <= 1000)) {
    throw new TypeError('sweep.batch must be a whole number from 1 to 1,000')
  }
  if (!isPositive(resolved.perSecond)) throw new TypeError('sweep.perSecond must be a positive number')
  return resolved
}

/** Checks the options and fills in the defaults; a wrong one is a `TypeError` that names it. */
export function resolveRetentionOptions(options: RetentionOptions = {}): Required<RetentionOptions> {
  const resolved = { attempts: 2_592_000, logouts: 31_536_000, ...options }
  refuseUnknown('retention', resolved, ['attempts', 'logouts'])
  if (!isPositive(resolved.attempts)) throw new TypeError('retention.attempts must be a positive number of seconds')
  if (!(isPositive(resolved.logouts) && resolved.logouts >= resolved.attempts)) {
    throw new TypeError('retention.logouts must be at least retention.attempts: attempts go with their logout')
  }
  return resolved
}

function refuseUnknown(option: string, given: object, known: readonly string[]): void {
  const unknown = Object.keys(given).find((name) => !known.includes(name))
  if (unknown !== undefined) throw new TypeError(`${option}.${unknown} is not an option`)
}

import { pause } from '../../runtime/alarm.ts'
import { inTime } from '../../runtime/in-time.ts'
import { messageOf } from '../../runtime/message-of.ts'
import type { Runtime } from '../../runtime/runtime.ts'
import type { OpLog } from '../log.ts'
import type { OpIssuerStore } from '../store/contract.ts'
import type { InFlight } from './in-flight.ts'

/** What {@link firstAttemptsOf} works with. */
export interface FirstAttemptsParts {
  readonly store: Pick<OpIssuerStore, 'getLogout' | 'onWake'>
  readonly runtime: Pick<Runtime, 'now' | 'sleep'>
  readonly log: OpLog
  readonly inFlight: Pick<InFlight, 'onEnd'>
  /** RPs that are down or held: nobody waits for those. */
  isWaitedFor(clientId: string): boolean
}

/** Milliseconds between two looks at deliveries of which other nodes may have taken some. */
const lookAgain = 50

/** Makes the function that waits until each RP of a logout has been tried once, or for `ms` milliseconds. */
export function firstAttemptsOf({
  store,
  runtime,
  log,
  inFlight,
  isWaitedFor,
}: FirstAttemptsParts): (logoutId: string, ms: number) => Promise<void> {
  /** A store that hangs keeps nobody waiting for longer than that. */
  function readLogout(logoutId: string, ms: number): ReturnType<typeof store.getLogout> {
    const what = 'the store did not say in time how far the logout is'
    return inTime(runtime, { ms, what }, () => store.getLogout(logoutId))
  }

  /** Another node may have made an attempt and has no way to tell: only its row shows it. */
  async function takeOutWhatOthersTried(waiting: Set<string>, logoutId: string, ms: number): Promise<void> {
    const found = await readLogout(logoutId, ms)
    for (const { id, attempts } of found?.deliveries ?? []) if (attempts > 0) waiting.delete(id)
  }

  return async (logoutId, ms) => {
    const until = new AbortController()
    const seen = new Set<string>()
    let waiting: Set<string> | undefined
    const stopListening = inFlight.onEnd((deliveryId) => {
      seen.add(deliveryId)
      waiting?.delete(deliveryId)
      if (waiting?.size === 0) until.abort()
    })
    try {
      const end = runtime.now() + ms
      const found = await readLogout(logoutId, ms)
      const first = found?.deliveries.filter(
        ({ id, attempts, clientId }) => attempts === 0 && !seen.has(id) && isWaitedFor(clientId),
      )
      waiting = new Set(first?.map(({ id }) => id))
      for (let left = end - runtime.now(); waiting.size > 0 && left > 0; left = end - runtime.now()) {
        await pause(runtime, store.onWake ? Math.min(left, lookAgain) : left, until.signal)
        if (!store.onWake || until.signal.aborted) break
        await takeOutWhatOthersTried(waiting, logoutId, end - runtime.now())
      }
    } catch (error) {
      // the logout is committed: that nobody can tell how far it is must not look like a failure
      log({ event: 'op_failed', task: 'first_attempts', message: messageOf(error) })
    } finally {
      stopListening()
    }
  }
}

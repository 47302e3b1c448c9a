import type { Runtime } from '../../runtime/runtime.ts'
import type { OpLog } from '../log.ts'
import type { AttemptOutcome, OpIssuerStore } from '../store/contract.ts'
import type { Tell } from './events.ts'
import { reachOf } from './report-attempt.ts'

/** Milliseconds of nothing but failures after which an RP is said to be unreachable. */
const unreachableAfter = 3_600_000
/** Milliseconds for which it is not written down again that an RP answers: of the hour, that much may be missed. */
const answersFor = 60_000

/** What {@link troubleWatch} works with. */
export interface TroubleParts {
  readonly store: Pick<OpIssuerStore, 'noteTrouble' | 'endTrouble'>
  readonly runtime: Pick<Runtime, 'now'>
  readonly log: OpLog
  readonly tell: Tell
}

/**
 * Makes the function that learns from each attempt whether an RP answers, and tells once when for an hour none has. Since
 * when, and that it was told, is in the store: all nodes share it, and a restart changes nothing.
 */
export function troubleWatch({
  store,
  runtime,
  log,
  tell,
}: TroubleParts): (clientId: string, outcome: AttemptOutcome) => Promise<void> {
  /** When it was last written down that an RP answers. */
  const answered = new Map<string, number>()
  return async (clientId, outcome) => {
    const reach = reachOf(outcome)
    if (reach === 'reached') {
      const now = runtime.now()
      if (now - (answered.get(clientId) ?? Number.NEGATIVE_INFINITY) < answersFor) return
      await store.endTrouble(clientId)
      answered.set(clientId, now)
    } else if (reach === 'not reached') {
      answered.delete(clientId)
      const since = await store.noteTrouble(clientId, unreachableAfter)
      if (since === undefined) return
      log({ event: 'client_unreachable', clientId, since })
      tell('lockstep.client.unreachable', { clientId, since })
    }
  }
}

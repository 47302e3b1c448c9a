import type { OpLog } from '../log.ts'
import type { AttemptOutcome, OpIssuerStore } from '../store/contract.ts'
import type { Tell } from './events.ts'
import { reachOf } from './report-attempt.ts'

/** Milliseconds of nothing but failures after which an RP is said to be unreachable. */
const unreachableAfter = 3_600_000

/** What {@link troubleWatch} works with. */
export interface TroubleParts {
  /** Seconds. */
  readonly horizon: number
  readonly store: Pick<OpIssuerStore, 'noteTrouble' | 'endTrouble'>
  readonly log: OpLog
  readonly tell: Tell
}

/**
 * Makes the function that learns from each attempt whether an RP answers, and tells once when for an hour none has. Since
 * when, and that it was told, is in the store: all nodes share it, and a restart changes nothing. Answers since when (epoch
 * milliseconds) an RP that was not reached is in trouble; failures farther apart than a quarter of a horizon are no one trouble.
 */
export function troubleWatch({
  store,
  log,
  tell,
  horizon,
}: TroubleParts): (clientId: string, outcome: AttemptOutcome) => Promise<number | undefined> {
  // an RP that is owed something is asked far more often: this OP was away, and nobody knows how the RP was meanwhile
  const pause = Math.max((horizon * 1000) / 4, unreachableAfter)
  return async (clientId, outcome) => {
    const reach = reachOf(outcome)
    if (reach === 'reached') {
      await store.endTrouble(clientId) // each time: the failure it puts an end to may be another node's
    } else if (reach === 'not reached') {
      const { since, isToTell } = await store.noteTrouble(clientId, { tellAfter: unreachableAfter, pause })
      if (isToTell) {
        log({ event: 'client_unreachable', clientId, since })
        tell('lockstep.client.unreachable', { clientId, since })
      }
      return since
    }
    return undefined
  }
}

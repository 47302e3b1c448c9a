import type { OpLog } from '../log.ts'
import type { AttemptOutcome, OpIssuerStore } from '../store/contract.ts'
import type { Tell } from './events.ts'
import { reachOf } from './report-attempt.ts'

/** Milliseconds of nothing but failures after which an RP is said to be unreachable. */
const unreachableAfter = 3_600_000

/** What {@link troubleWatch} works with. */
export interface TroubleParts {
  readonly store: Pick<OpIssuerStore, 'noteTrouble' | 'endTrouble'>
  readonly log: OpLog
  readonly tell: Tell
}

/**
 * Makes the function that learns from each attempt whether an RP answers, and tells once when for an hour none has. Since
 * when, and that it was told, is in the store: all nodes share it, and a restart changes nothing.
 */
export function troubleWatch({
  store,
  log,
  tell,
}: TroubleParts): (clientId: string, outcome: AttemptOutcome) => Promise<void> {
  return async (clientId, outcome) => {
    const reach = reachOf(outcome)
    if (reach === 'reached') {
      await store.endTrouble(clientId) // each time: the failure it puts an end to may be another node's
    } else if (reach === 'not reached') {
      const since = await store.noteTrouble(clientId, unreachableAfter)
      if (since === undefined) return
      log({ event: 'client_unreachable', clientId, since })
      tell('lockstep.client.unreachable', { clientId, since })
    }
  }
}

import { setImmediate as breath } from 'node:timers/promises'
import type { Attempt } from '../backchannel.ts'
import type { OpLog } from '../log.ts'
import type { OpIssuerStore } from '../store/contract.ts'
import type { Tell } from './events.ts'
import { reportGivenUp } from './report-attempt.ts'

/**
 * True when an RP has failed past a horizon, and others of its deliveries that are past theirs would get no attempt of their
 * own to die of: it is down, or it registered itself and refuses, so that each attempt is out of a budget.
 *
 * @param isDown And has been for a whole horizon: what is past its horizon because the OP was away is tried.
 */
export function isHeldBack({ outcome, admission }: Attempt, isDown: boolean): boolean {
  if (outcome.state !== 'dead' || outcome.why !== 'horizon') return false
  const why = outcome.failure?.why
  if (why === 'internal' || why === 'egress') return false // that is no word of the RP
  return isDown || (why === 'refusal' && admission !== undefined)
}

/** Makes the function that gives up all that an RP is owed past its horizon, part by part until `isStopping`. */
export function createGiveUp(
  { store, log, tell }: { readonly store: Pick<OpIssuerStore, 'giveUp'>; readonly log: OpLog; readonly tell: Tell },
  isStopping: () => boolean,
): (clientId: string, begun: number) => Promise<void> {
  const underWay = new Set<string>()
  return async (clientId, begun) => {
    if (underWay.has(clientId)) return
    underWay.add(clientId)
    try {
      let part: Awaited<ReturnType<OpIssuerStore['giveUp']>> | undefined
      do {
        if (part) await breath()
        part = await store.giveUp(clientId, begun, part?.cursor)
        for (const delivery of part.deliveries) reportGivenUp(log, tell, delivery)
      } while (part.cursor && !isStopping())
    } finally {
      underWay.delete(clientId)
    }
  }
}

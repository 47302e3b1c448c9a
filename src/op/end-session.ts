import { planFanOut, type Receiver } from './fan-out.ts'
import type { EndedOpSession, Logout, OpIssuerStore } from './store/contract.ts'

/** Why an OP session ends, at whose wish, and at which RP it began. */
export type Ending = Pick<Logout, 'cause' | 'initiator' | 'actor'>

/** What ending an OP session needs. */
export interface EndSessionParts {
  readonly store: OpIssuerStore
  /** Metadata of a client, `undefined` when it is gone. */
  readonly findReceiver: (clientId: string) => Promise<Receiver | undefined>
  /** Called after the commit: somebody has to be told. */
  readonly wake: () => void
}

/**
 * Ends an OP session: every cause takes this road.
 *
 * One durable transaction holds the tombstone, the deletion, the revocation of its grants, the fact and one delivery per
 * logged-in RP. If it throws, nothing happened and the End-User is still signed in.
 *
 * @returns what ended, or `undefined` when the OP session was not alive (logging out twice succeeds twice).
 */
export async function endSession(
  { store, findReceiver, wake }: EndSessionParts,
  uid: string,
  ending: Ending,
): Promise<EndedOpSession | undefined> {
  const session = await store.getOpSession({ uid })
  if (!session) return undefined
  const receivers = new Map(
    await Promise.all(session.rps.map(async ({ clientId }) => [clientId, await findReceiver(clientId)] as const)),
  )
  const ended = await store.endOpSession(uid, ending, (rps) => planFanOut(rps, receivers))
  if (ended) wake()
  return ended
}

import { revokesOffline } from './causes.ts'
import { clientTrouble } from './clients/find-client.ts'
import { noTelemetry, type Telemetry } from './delivery/telemetry.ts'
import { planFanOut, type Receiver } from './fan-out.ts'
import type { OpLog } from './log.ts'
import { allTogether } from './logins-together.ts'
import type {
  EndableOpSession,
  EndedOpSession,
  LoggedInRp,
  Logout,
  OpIssuerStore,
  StoreEnding,
} from './store/contract.ts'

/** Why an OP session ends, at whose wish, and at which RP it began. */
export type Ending = Pick<Logout, 'cause' | 'initiator' | 'actor' | 'reason'>

/** What ending an OP session needs. */
export interface EndSessionParts {
  readonly store: OpIssuerStore
  /** Metadata of a client, `undefined` when it is gone. */
  readonly findReceiver: (clientId: string) => Promise<Receiver | undefined>
  /** Called after the commit: somebody has to be told. */
  readonly wake: () => void
  readonly log: OpLog
  /** Who counts. Default: nobody does. */
  readonly telemetry?: Pick<Telemetry, 'logouts'>
}

/**
 * Ends an OP session: every cause takes this road, alone or with others ({@link endSessions}).
 *
 * One durable transaction holds the tombstone, the deletion, the revocation of its grants, the fact and one delivery per
 * logged-in RP. If it throws, nothing happened and the End-User is still signed in.
 *
 * @returns what ended, or `undefined` when the OP session was not alive (logging out twice succeeds twice).
 */
export async function endSession(
  { store, wake, ...parts }: EndSessionParts,
  uid: string,
  ending: Ending,
): Promise<EndedOpSession | undefined> {
  const session = await store.getOpSession({ uid })
  if (!session) return undefined
  const receivers = await receiversOf(session.rps, parts)
  const ended = await (parts.telemetry ?? noTelemetry).logouts(
    ending.cause,
    (trace) =>
      store.endOpSession(uid, { ...whole(ending), ...trace }, (rps) => planFanOut(rps, receivers, ending.cause)),
    (ended) => (ended ? 1 : 0),
  )
  if (ended) wake()
  return ended
}

/** Ends OP sessions of one browser, one as a rule, and what it is known to have begun together with them: all or none, for one cause. */
export async function endTogether(
  parts: EndSessionParts,
  uids: readonly string[],
  ending: Ending,
): Promise<readonly EndedOpSession[]> {
  const all = await allTogether(uids, parts.store)
  const [uid, ...others] = all
  if (uid === undefined) return []
  if (others.length === 0) return [await endSession(parts, uid, ending)].filter((ended) => ended !== undefined)
  const sessions = await Promise.all(all.map((each) => parts.store.getOpSession({ uid: each })))
  return endSessions(
    parts,
    sessions.filter((session) => session !== undefined),
    ending,
  )
}

/** Ends OP sessions that nobody can use any more, some at a time: of a job, or expired ones. All of them end, or none. */
export async function endSessions(
  { store, wake, ...parts }: EndSessionParts,
  sessions: readonly EndableOpSession[],
  ending: Ending,
  job?: { readonly id: string; readonly pause: number },
): Promise<readonly EndedOpSession[]> {
  const receivers = await receiversOf(
    sessions.flatMap(({ rps }) => rps),
    parts,
  )
  const uids = sessions.map(({ uid }) => uid)
  const plan = (rps: readonly LoggedInRp[]) => planFanOut(rps, receivers, ending.cause)
  const ended = await (parts.telemetry ?? noTelemetry).logouts(
    ending.cause,
    (trace) => store.endOpSessions(uids, { ...whole(ending), ...trace }, plan, job),
    ({ length }) => length,
  )
  if (ended.length > 0) wake()
  return ended
}

/** What the store is told about an end: the cause decides whether grants with `offline_access` fall too (T1). */
export function whole(ending: Ending): StoreEnding {
  return { ...ending, revokeOffline: revokesOffline(ending.cause) }
}

/** The RPs' registrations. One that cannot be read now is left out: that RP is planned, and looked up again when told. */
async function receiversOf(
  rps: readonly LoggedInRp[],
  { findReceiver, log }: Pick<EndSessionParts, 'findReceiver' | 'log'>,
): Promise<ReadonlyMap<string, Receiver | undefined>> {
  const receivers = new Map<string, Receiver | undefined>()
  const read = async (clientId: string): Promise<void> => {
    try {
      receivers.set(clientId, await findReceiver(clientId))
    } catch (error) {
      log({ event: 'op_failed', task: 'client', clientId, message: clientTrouble(error) })
    }
  }
  await Promise.all([...new Set(rps.map(({ clientId }) => clientId))].map(read))
  return receivers
}

import { comesFromBrowser } from '../causes.ts'
import { nameOf } from '../clients/client-name.ts'
import type { FindClient } from '../clients/find-client.ts'
import type { Delivery, DeliveryState, FrameNotice, Logout, Mechanism, OpIssuerStore } from '../store/contract.ts'

/** Proof of a logout: what became of each app. Times are epoch milliseconds. */
export interface Receipt extends Pick<Logout, 'accountId' | 'cause' | 'initiator' | 'actor' | 'reason' | 'endedAt'> {
  readonly logoutId: string
  /** By name. */
  readonly apps: readonly ReceiptApp[]
}

/** What became of one app. */
export interface ReceiptApp {
  readonly clientId: string
  /** Its name for people. */
  readonly app: string
  readonly mechanism: Mechanism
  /**
   * `delivered`: the app has answered that it is done. `unknown`: it was shown in a frame, of which a browser says nothing.
   * `dead`: it was not reached, or no browser was there to show it in a frame.
   */
  readonly state: DeliveryState | 'unknown'
  readonly plannedAt: number
  /** Attempts that were finished. */
  readonly attempts: number
  /** When it is tried next. */
  readonly nextTryAt?: number
  /** When the state became final. */
  readonly finalAt?: number
  /** How many RP sessions the app says it ended. */
  readonly sessionsEnded?: number
  /** `ended_nothing`: a success that ended nothing (T28). `unusual_answer`: one that something else may have given. */
  readonly flag?: 'ended_nothing' | 'unusual_answer'
}

/** Receipts of logouts. */
export interface Receipts {
  /** What became of each app, as far as it is known now; `undefined` when there was no such logout. */
  get(logoutId: string): Promise<Receipt | undefined>
}

/** Milliseconds for which a browser may see how its last logout went (T14), and may be shown a page with frames. */
export const RECEIPT_LIFETIME = 600_000

/** Reads receipts from the store; names are those the clients have now. */
export function receiptsOf(
  findClient: FindClient,
  store: Pick<OpIssuerStore, 'getLogout'>,
  now: () => number,
): Receipts {
  const name = async (clientId: string): Promise<string> => {
    const client = await findClient(clientId)
    return client ? nameOf(client) : clientId
  }
  return {
    async get(logoutId) {
      const found = await store.getLogout(logoutId)
      if (!found) return undefined
      const { logout, deliveries, frames } = found
      const apps = await Promise.all([
        ...deliveries.map(async (delivery) => fromDelivery(delivery, await name(delivery.clientId))),
        ...frames.map(async (frame) => fromFrame(frame, await name(frame.clientId), logout, now())),
      ])
      const { id, uid: _uid, trace: _trace, ...fact } = logout
      return { logoutId: id, ...fact, apps: apps.sort((a, b) => a.app.localeCompare(b.app)) }
    },
  }
}

function fromDelivery(delivery: Delivery, app: string): ReceiptApp {
  const { clientId, state, attempts, createdAt, dueAt, lastOutcome } = delivery
  const delivered = lastOutcome?.state === 'delivered' ? lastOutcome : undefined
  const flag = delivered?.endedNothing ? 'ended_nothing' : delivered?.suspicious ? 'unusual_answer' : undefined
  return {
    clientId,
    app,
    mechanism: 'backchannel',
    state,
    plannedAt: createdAt,
    attempts,
    ...(state === 'due' && { nextTryAt: dueAt }),
    ...(state !== 'due' && state !== 'in-flight' && { finalAt: dueAt }),
    ...(delivered?.sessionsEnded !== undefined && { sessionsEnded: delivered.sessionsEnded }),
    ...(flag !== undefined && { flag }),
  }
}

function fromFrame({ clientId, framedAt }: FrameNotice, app: string, logout: Logout, now: number): ReceiptApp {
  const { cause, actor, endedAt } = logout
  const about = { clientId, app, mechanism: 'frontchannel', plannedAt: endedAt } as const
  if (framedAt !== undefined) return { ...about, state: 'unknown', attempts: 1, finalAt: framedAt }
  // Where somebody else acted, the End-User's browser was not there.
  const given = comesFromBrowser(cause) && actor === undefined ? endedAt + RECEIPT_LIFETIME : endedAt
  if (now < given) return { ...about, state: 'due', attempts: 0, nextTryAt: now }
  return { ...about, state: 'dead', attempts: 0, finalAt: given }
}

import type { OpLog } from '../log.ts'
import type {
  AttemptOutcome,
  AttemptRecord,
  Delivery,
  DeliveryFilter,
  DeliveryState,
  Logout,
  OpIssuerStore,
} from '../store/contract.ts'

/** A delivery, as an operator sees it: one notice to one RP. Times are epoch milliseconds. */
export interface DeliveryInfo extends Pick<Logout, 'accountId' | 'cause' | 'actor' | 'reason' | 'endedAt'> {
  /** The same in logs, events and traces; each attempt has a `jti` of its own on the wire. */
  readonly deliveryId: string
  readonly logoutId: string
  readonly clientId: string
  readonly state: DeliveryState
  readonly plannedAt: number
  /** Attempts that were finished. */
  readonly attempts: number
  /** When it is tried next; of a delivery in flight, when another worker takes it over. */
  readonly nextTryAt?: number
  /** When the state became final. */
  readonly finalAt?: number
  /** How the last attempt went. A due delivery whose last outcome is final has one try more. */
  readonly lastOutcome?: AttemptOutcome
  /** Who dropped it; only of a dead one. */
  readonly droppedBy?: string
}

/** A part of a list of deliveries. */
export interface DeliveryList {
  /** May be fewer than asked for, even none, where there is a cursor: a part looks through a bounded number of rows. */
  readonly deliveries: readonly DeliveryInfo[]
  /** Where the next part begins; absent when this is the last. */
  readonly cursor?: string
}

/** A delivery with what was tried. */
export interface DeliveryWithHistory extends DeliveryInfo {
  /** The newest first, at most 500; kept as long as `retention.attempts` says. */
  readonly history: readonly AttemptRecord[]
}

/** How much an action did. */
export interface DeliveryCount {
  readonly count: number
  /** True when `limit` was reached: there may be more, call it again. */
  readonly more: boolean
}

/** The deliveries of an OP: what each RP was told, and what operators do about those that were not. */
export interface Deliveries {
  /**
   * Deliveries to which all of the filter applies, the newest first.
   *
   * @param page.limit How many at most, up to 1,000. Default 100.
   * @param page.cursor Of the part before.
   */
  list(filter?: DeliveryFilter, page?: { cursor?: string; limit?: number }): Promise<DeliveryList>
  /** One delivery with its attempts; `undefined` when there is none. */
  get(deliveryId: string): Promise<DeliveryWithHistory | undefined>
  /**
   * Has each of these deliveries tried once, now: those that wait for their next try, and those that are refused or dead. One of
   * the latter goes back to its state when the try fails; no new schedule begins. What is in flight is left alone.
   * Dropped ones are tried only where the filter names them (`state: 'dropped'`, or `deliveryId`).
   *
   * One that is chosen by its `deliveryId` is tried although its RP counts as down. Of others, such an RP is asked with one at
   * once, and gets the rest when it answers. What is on a budget (T8) waits for that.
   *
   * @param options.limit How many at most, up to 10,000. Default 1,000.
   * @param options.actor Who does it, for the log.
   */
  retry(filter: DeliveryFilter, options?: { actor?: string; limit?: number }): Promise<DeliveryCount>
  /** Gives refused and dead deliveries a new horizon, from now on: tried now, and again until it is over. */
  reschedule(filter: DeliveryFilter, options?: { actor?: string; limit?: number }): Promise<DeliveryCount>
  /**
   * Gives up deliveries that are owed, refused or dead: they are tried no more, and stay in lists and receipts as dead, with
   * who dropped them. For one in flight the attempt under way is the last: it is dropped when that is over, unless the RP takes it;
   * where a process stops or dies meanwhile, it is made once more. A muted logout may leave somebody signed in, so the filter must name something.
   *
   * @param options.actor Who does it.
   */
  drop(filter: DeliveryFilter, options: { actor: string; limit?: number }): Promise<DeliveryCount>
}

/** What {@link deliveriesOf} works with. */
export interface DeliveriesParts {
  readonly store: OpIssuerStore
  /** Called when deliveries came due by hand: those of the filter. */
  readonly hurry: (those: Pick<DeliveryFilter, 'deliveryId' | 'clientId'>) => void
  readonly log: OpLog
}

/** Attempts that `get` shows at most. */
const longestHistory = 500

/** Builds an OP's `deliveries`. */
export function deliveriesOf({ store, hurry, log }: DeliveriesParts): Deliveries {
  return {
    async list(filter = {}, page = {}) {
      const limit = checkedLimit(page.limit, { most: 1000, usual: 100 })
      const { cursor } = page
      const found = await store.listDeliveries(checkedFilter(filter), {
        limit,
        ...(cursor !== undefined && { cursor }),
      })
      return {
        deliveries: found.deliveries.map(toInfo),
        ...(found.cursor !== undefined && { cursor: found.cursor }),
      }
    },

    async get(deliveryId) {
      const found = await store.getDelivery(deliveryId, longestHistory)
      return found && { ...toInfo(found.delivery), history: found.attempts }
    },

    async retry(filter, options = {}) {
      const limit = checkedLimit(options.limit)
      const actor = checkedActor(options.actor)
      const count = await store.retryDeliveries(actedOn(filter, ['due', 'refused', 'dead', 'dropped']), limit)
      if (count > 0) {
        hurry(filter)
        log({ event: 'deliveries_retried', count, ...actor })
      }
      return { count, more: count === limit }
    },

    async reschedule(filter, options = {}) {
      const limit = checkedLimit(options.limit)
      const actor = checkedActor(options.actor)
      const count = await store.rescheduleDeliveries(actedOn(filter, ['refused', 'dead', 'dropped']), limit)
      if (count > 0) {
        hurry(filter)
        log({ event: 'deliveries_rescheduled', count, ...actor })
      }
      return { count, more: count === limit }
    },

    async drop(filter, { actor, ...options }) {
      const limit = checkedLimit(options.limit)
      if (checkedActor(actor).actor === undefined) throw new TypeError('actor must be a name: who drops them?')
      const checked = actedOn(filter, ['due', 'in-flight', 'refused', 'dead'])
      if (Object.values(checked).every((value) => value === undefined)) {
        throw new TypeError('the filter of drop must name something: an empty one would mute every logout')
      }
      const count = await store.dropDeliveries(checked, actor, limit)
      if (count > 0) log({ event: 'deliveries_dropped', count, actor })
      return { count, more: count === limit }
    },
  }
}

const texts = ['deliveryId', 'logoutId', 'clientId', 'accountId'] as const
const times = ['since', 'until'] as const
const states: readonly unknown[] = ['due', 'in-flight', 'delivered', 'refused', 'dead', 'dropped']
const known: ReadonlySet<string> = new Set([...texts, ...times, 'state'] satisfies (keyof DeliveryFilter)[])

/** A misspelt filter must not become a wider one. */
function checkedFilter(filter: DeliveryFilter): DeliveryFilter {
  if (typeof filter !== 'object' || filter === null) throw new TypeError('the filter of deliveries must be an object')
  const unknown = Object.keys(filter).find((name) => !known.has(name))
  if (unknown !== undefined) throw new TypeError(`"${unknown}" is not part of a filter of deliveries`)
  for (const name of texts) {
    const value: unknown = filter[name]
    if (value !== undefined && (typeof value !== 'string' || value === ''))
      throw new TypeError(`${name} must be a name`)
  }
  for (const name of times) {
    const value: unknown = filter[name]
    if (value !== undefined && !Number.isFinite(value)) throw new TypeError(`${name} must be epoch milliseconds`)
  }
  if (filter.state !== undefined && !states.includes(filter.state)) {
    throw new TypeError(`state must be one of ${states.join(', ')}`)
  }
  return filter
}

function actedOn(filter: DeliveryFilter, those: readonly DeliveryFilter['state'][]): DeliveryFilter {
  const { state } = checkedFilter(filter)
  if (state !== undefined && !those.includes(state)) {
    throw new TypeError(`state must be one of ${those.join(', ')} here, not ${state}`)
  }
  return filter
}

function checkedActor(actor: unknown): { readonly actor?: string } {
  if (actor === undefined) return {}
  if (typeof actor !== 'string' || actor === '') throw new TypeError('actor must be a name: who does it?')
  return { actor }
}

function checkedLimit(limit: number | undefined, { most, usual } = { most: 10_000, usual: 1000 }): number {
  const resolved = limit ?? usual
  if (Number.isSafeInteger(resolved) && resolved > 0 && resolved <= most) return resolved
  throw new TypeError(`limit must be a whole number from 1 to ${most.toLocaleString('en')}`)
}

function toInfo({ logout, ...delivery }: Delivery): DeliveryInfo {
  const { id, clientId, state, attempts, createdAt, dueAt, lastOutcome, droppedBy } = delivery
  const { accountId, cause, actor, reason, endedAt } = logout
  const isOwed = state === 'due' || state === 'in-flight'
  return {
    deliveryId: id,
    logoutId: logout.id,
    clientId,
    accountId,
    cause,
    ...(actor !== undefined && { actor }),
    ...(reason !== undefined && { reason }),
    endedAt,
    state,
    plannedAt: createdAt,
    attempts,
    ...(isOwed ? { nextTryAt: dueAt } : { finalAt: dueAt }),
    ...(lastOutcome !== undefined && { lastOutcome }),
    ...(droppedBy !== undefined && { droppedBy }),
  }
}

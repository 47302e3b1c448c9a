import type { DeliveryFilter } from './contract.ts'

/** SQL over `delivery d` and `logout l`; `?` stands for the value. */
export interface Condition {
  readonly sql: string
  readonly value?: string | number
}

/**
 * How rows are found: those of one delivery, logout or account by its index, those of a state by theirs; else, and where a time
 * is asked for besides, by walking through them from the newest on. A plus before a column keeps a database from looking by it.
 */
export interface Road {
  /** SQL: that the rows are of the issuer `?`. */
  readonly issuer: string
  /** SQL: the number of a row, by which rows are ordered. */
  readonly seq: string
  readonly isWalk: boolean
}

/** Rows that one part of a list looks through at most where it has to walk: some tens of milliseconds. */
export const mostWalked = 20_000
/** Rows come in the order of time, except that the clocks of nodes differ: milliseconds to go on behind `since`. */
export const clocksDiffer = 3_600_000

type States = Readonly<Record<NonNullable<DeliveryFilter['state']>, string>>

/** Each state in the words of the partial index that holds it, `delivery_by_state`. */
const states: States = {
  due: `d.state <> 'delivered' AND d.state = 'due'`,
  'in-flight': `d.state <> 'delivered' AND d.state = 'in-flight'`,
  refused: `d.state <> 'delivered' AND d.state = 'refused'`,
  dead: `d.state <> 'delivered' AND d.state = 'dead' AND d.dropped_by IS NULL`,
  dropped: `d.state <> 'delivered' AND d.state = 'dead' AND d.dropped_by IS NOT NULL`,
  delivered: `d.state = 'delivered'`,
}

/** The same for rows of one client: `delivery_waiting` and `delivery_failed`. Few rows are in flight, and the first index will do. */
const statesOfClient: States = {
  ...states,
  due: `d.due_at IS NOT NULL AND d.state <> 'in-flight'`,
  refused: `d.state IN ('refused', 'dead') AND d.state = 'refused'`,
  dead: `d.state IN ('refused', 'dead') AND d.state = 'dead' AND d.dropped_by IS NULL`,
  dropped: `d.state IN ('refused', 'dead') AND d.state = 'dead' AND d.dropped_by IS NOT NULL`,
}

/** What a filter asks of a row. */
export function conditionsOf(filter: DeliveryFilter): readonly Condition[] {
  const { deliveryId, logoutId, clientId, accountId, state, since, until } = filter
  return [
    ...(deliveryId === undefined ? [] : [{ sql: 'd.id = ?', value: deliveryId }]),
    ...(logoutId === undefined ? [] : [{ sql: 'l.id = ?', value: logoutId }]),
    ...(accountId === undefined ? [] : [{ sql: 'l.account_id = ?', value: accountId }]),
    ...(clientId === undefined ? [] : [{ sql: 'd.client_id = ?', value: clientId }]),
    ...(state === undefined ? [] : [{ sql: (clientId === undefined ? states : statesOfClient)[state] }]),
    ...(since === undefined ? [] : [{ sql: 'd.created_at >= ?', value: Math.ceil(since) }]),
    ...(until === undefined ? [] : [{ sql: 'd.created_at < ?', value: Math.ceil(until) }]),
  ]
}

/** Which road leads to the rows of a filter. */
export function roadOf({ deliveryId, logoutId, accountId, state, since, until }: DeliveryFilter): Road {
  if (deliveryId !== undefined) return { issuer: 'd.issuer = ?', seq: '+d.seq', isWalk: false }
  if (logoutId !== undefined || accountId !== undefined) {
    return { issuer: 'l.issuer = ? AND +d.issuer = l.issuer', seq: '+d.seq', isWalk: false }
  }
  if (state !== undefined && state !== 'delivered') {
    return { issuer: 'd.issuer = ?', seq: 'd.seq', isWalk: since !== undefined || until !== undefined }
  }
  return { issuer: '+d.issuer = ?', seq: 'd.seq', isWalk: true }
}

/**
 * SQL: the number `seq` from which on rows were planned at the time `time` or later. It is found by halving, since rows come in the
 * order of time.
 */
export const firstAt = (time: string): string => `
  WITH RECURSIVE half (before, step) AS (
    SELECT CAST(0 AS BIGINT), CAST(4503599627370496 AS BIGINT)
    UNION ALL
    SELECT before + CASE WHEN
        (SELECT d.created_at FROM delivery d WHERE d.seq >= before + step ORDER BY d.seq LIMIT 1) < ${time}
      THEN step ELSE 0 END, step / 2
    FROM half WHERE step > 0
  )
  SELECT max(before) + 1 AS seq FROM half`

/** The number of the first row that may be of a filter, and the one behind the last: no others are looked at. */
export interface Span {
  readonly from: number
  readonly to: number
}

/** The times at whose {@link firstAt} the span of a filter begins and ends. */
export function timesOf({ since, until }: DeliveryFilter): { readonly from?: number; readonly to?: number } {
  return {
    ...(since !== undefined && { from: Math.ceil(since) - clocksDiffer }),
    ...(until !== undefined && { to: Math.ceil(until) + clocksDiffer }),
  }
}

/** The rows are found by an index of their own, however many others there are. */
export const anywhere: Span = { from: 0, to: Number.MAX_SAFE_INTEGER }

/** The filters, one per state, of the rows that an operator's action touches; dropped ones only where they are meant. */
export function touched(
  filter: DeliveryFilter,
  those: readonly NonNullable<DeliveryFilter['state']>[],
): readonly DeliveryFilter[] {
  const { state, deliveryId } = filter
  const meant = state === undefined ? those.filter((one) => one !== 'dropped' || deliveryId !== undefined) : [state]
  return meant.filter((one) => those.includes(one)).map((one) => ({ ...filter, state: one }))
}

/** What a caller gives back for the next part: the row to go on behind. */
export function writeCursor(seq: number): string {
  return Buffer.from(`d ${seq}`).toString('base64url')
}

/** @throws TypeError when no list of deliveries gave this cursor. */
export function readCursor(cursor: string): number {
  const [, seq] = /^d (\d{1,15})$/.exec(Buffer.from(cursor, 'base64url').toString()) ?? []
  if (seq === undefined) throw new TypeError('cursor is not one that a list of deliveries gave')
  return Number(seq)
}

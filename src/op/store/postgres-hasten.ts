import { type Statement, statement } from '../../runtime/postgres.ts'
import type { OpIssuerStore } from './contract.ts'
import type { PostgresContext } from './postgres-context.ts'
import { ramp, rowsInStep, type Waiting } from './ramp.ts'

const waiting = (name: string, whose: string): Statement<Waiting> =>
  statement(
    name,
    `SELECT client_id, due_at, seq FROM delivery WHERE issuer = $1 AND due_at IS NOT NULL AND ${whose} AND state = 'due'
     ORDER BY client_id, due_at, seq LIMIT ${rowsInStep}`,
  )
const waitingOfAll = waiting('delivery_waiting', '(client_id, due_at, seq) > ($2, $3, $4)')
const waitingOfOne = waiting('delivery_waiting_of', 'client_id = $2 AND (due_at, seq) > ($3, $4)')
const hasten = statement(
  'delivery_hasten',
  `UPDATE delivery SET due_at = sooner.due_at
   FROM (SELECT d.seq, wanted.due_at FROM unnest($2::bigint[], $3::bigint[]) AS wanted (seq, due_at)
         JOIN delivery d ON d.seq = wanted.seq
         WHERE d.issuer = $1 AND d.state = 'due' AND wanted.due_at < d.due_at FOR UPDATE OF d SKIP LOCKED) AS sooner
   WHERE delivery.seq = sooner.seq`,
)
/** Brings forward what an RP that is back has missed, in PostgreSQL; what another node holds at the moment is left to it. */
export function postgresHasten(context: PostgresContext): Pick<OpIssuerStore, 'hasten'> {
  return {
    async hasten(whose, perSecond, signal) {
      const { first, bringForward } = ramp(whose, (await context.clock()).now, perSecond)
      const found = whose === 'all' ? waitingOfAll : waitingOfOne
      let behind: Waiting | undefined = first
      let count = 0
      while (behind && !signal?.aborted) {
        const rows: Waiting[] = await context.each.all(found, behind.client_id, behind.due_at, behind.seq)
        const { sooner, next } = bringForward(rows)
        const [seqs, times] = [sooner.map(({ seq }) => seq), sooner.map(({ dueAt }) => dueAt)]
        if (sooner.length > 0) count += await context.writeSoon((queries) => queries.change(hasten, seqs, times))
        behind = next
      }
      return count
    },
  }
}

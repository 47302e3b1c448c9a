import { setImmediate as breath } from 'node:timers/promises'
import type { OpIssuerStore } from './contract.ts'
import { ramp, rowsInStep, type Waiting } from './ramp.ts'
import type { SqliteContext } from './sqlite-context.ts'

/** Where a step through waiting rows goes on. */
type Step = Waiting & { readonly issuer: number }

/** Brings forward what an RP that is back has missed, in SQLite: between two steps others have their turn. */
export function sqliteHasten(context: SqliteContext): Pick<OpIssuerStore, 'hasten'> {
  const { db, issuer } = context
  const waitingOf = (whose: string): string =>
    `SELECT client_id, due_at, seq FROM delivery WHERE issuer = @issuer AND due_at IS NOT NULL AND ${whose} AND state = 'due'
     ORDER BY client_id, due_at, seq LIMIT ${rowsInStep}`
  const waitingOfAll = db.prepare<[Step], Waiting>(waitingOf('(client_id, due_at, seq) > (@client_id, @due_at, @seq)'))
  const waitingOfOne = db.prepare<[Step], Waiting>(
    waitingOf('client_id = @client_id AND (due_at, seq) > (@due_at, @seq)'),
  )
  const hasten = db.prepare<[number, number]>('UPDATE delivery SET due_at = ? WHERE seq = ?')

  return {
    async hasten(whose, perSecond, signal) {
      const { first, bringForward } = ramp(whose, context.now(), perSecond)
      const waiting = whose === 'all' ? waitingOfAll : waitingOfOne
      let behind: Waiting | undefined = first
      let count = 0
      while (behind && !signal?.aborted) {
        const { client_id, due_at, seq }: Waiting = behind
        behind = context.writeSoon(() => {
          const { sooner, next } = bringForward(waiting.all({ issuer, client_id, due_at, seq }))
          for (const row of sooner) hasten.run(row.dueAt, row.seq)
          count += sooner.length
          return next
        })
        if (behind) await breath()
      }
      return count
    },
  }
}

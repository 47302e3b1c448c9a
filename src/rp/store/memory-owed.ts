import type { Runtime } from '../../runtime/runtime.ts'
import type { Owed, OwedKind, RpSessionStore } from './contract.ts'

interface OwedRow {
  readonly debt: string
  readonly owedSince: number
  readonly attempts: number
  readonly dueAt: number
}

/** What is owed, in memory: a queue for each kind. */
export interface MemoryOwed extends Pick<RpSessionStore, 'claimOwed' | 'settleOwed' | 'nextOwedAt'> {
  add(debt: string, kind?: OwedKind): void
}

export function createMemoryOwed(runtime: Pick<Runtime, 'now'>): MemoryOwed {
  const owed: Readonly<Record<OwedKind, Map<string, OwedRow>>> = { revocation: new Map(), downstream: new Map() }
  let last = 0

  return {
    add(debt, kind = 'revocation') {
      const at = runtime.now()
      owed[kind].set(String(++last), { debt, owedSince: at, attempts: 0, dueAt: at })
    },

    async claimOwed({ limit, lease, kind = 'revocation' }) {
      const claimed: Owed[] = []
      for (const [id, row] of owed[kind]) {
        if (claimed.length === limit) break
        if (row.dueAt > runtime.now()) continue
        const taken = { ...row, attempts: row.attempts + 1, dueAt: runtime.now() + lease }
        owed[kind].set(id, taken)
        claimed.push({ id, debt: taken.debt, attempts: taken.attempts, owedSince: taken.owedSince })
      }
      return claimed
    },

    async settleOwed(id, outcome, kind = 'revocation') {
      const row = owed[kind].get(id)
      if (row === undefined || outcome === 'done') owed[kind].delete(id)
      else owed[kind].set(id, { ...row, dueAt: outcome.retryAt })
    },

    async nextOwedAt(kind = 'revocation') {
      let next: number | undefined
      for (const { dueAt } of owed[kind].values()) next = Math.min(next ?? dueAt, dueAt)
      return next
    },
  }
}

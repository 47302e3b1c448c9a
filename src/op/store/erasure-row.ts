import { pseudonymOf } from '../pseudonym.ts'
import type { AttemptOutcome } from './contract-attempts.ts'
import type { Erasure } from './contract-erasures.ts'
import { longestRequest } from './longest-request.ts'

/** An erasure as the tables keep it. */
export interface ErasureRow {
  seq: number
  id: string
  job_id: string
  account_id: string | null
  at: number
  /** How far the models have been looked through; the kind is NULL once that is over. */
  after_kind: string | null
  after_handle: string
  /** When the last walk through the models began; NULL while it is the first. */
  walk_at: number | null
  finished_at: number | null
}

/** How far an erasure is once nothing names the account but the jobs that refuse it. */
export type LastStep = 'wait' | 'walk' | 'finish'

/**
 * What comes next when only jobs name the account, of which the youngest is of `youngest`: first they wait for the requests that were under
 * way. One of those may have committed a model behind the walk of before, where only the jobs refuse it. So there is a last walk,
 * and then the jobs give the name up.
 */
export function lastStep({ at, walk_at: walkAt }: ErasureRow, youngest: number | null, now: number): LastStep {
  const from = (youngest ?? at) + longestRequest * 1000
  if (now < from) return 'wait'
  return (walkAt ?? at) < from ? 'walk' : 'finish'
}

/** Models that are looked through in one step. */
export const modelsAtOnce = 1000
/** Sorts behind every kind of model. */
export const lastKind = '~'

/** An erasure as callers know it; `toCaller` turns the times of the tables into theirs. */
export function toErasure(row: ErasureRow, toCaller: (time: number) => number = (time) => time): Erasure {
  return {
    id: row.id,
    jobId: row.job_id,
    pseudonym: pseudonymOf(row.id),
    ...(row.account_id !== null && { accountId: row.account_id }),
    state: row.finished_at === null ? 'running' : 'done',
    requestedAt: toCaller(row.at),
    ...(row.finished_at !== null && { finishedAt: toCaller(row.finished_at) }),
  }
}

/** An outcome without what the RP said in its own words: they may be about the user. */
export function withoutWords(outcome: string): string {
  const { errorDescription: _, ...kept } = JSON.parse(outcome) as AttemptOutcome & { errorDescription?: string }
  if (!('failure' in kept) || kept.failure === undefined) return JSON.stringify(kept)
  const { errorDescription: __, ...failure } = kept.failure
  return JSON.stringify({ ...kept, failure })
}

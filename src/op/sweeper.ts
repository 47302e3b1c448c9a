import { alarm, pause } from '../runtime/alarm.ts'
import { messageOf } from '../runtime/message-of.ts'
import type { Runtime } from '../runtime/runtime.ts'
import { type EndSessionParts, endSessions } from './end-session.ts'
import type { OpLog } from './log.ts'
import type { RetentionOptions, SweepOptions } from './sweep-options.ts'

/** What the sweeper works with. */
export interface SweeperParts extends EndSessionParts {
  readonly runtime: Pick<Runtime, 'now' | 'sleep'>
  readonly sweep: Required<SweepOptions>
  readonly retention: Required<RetentionOptions>
  readonly log: OpLog
  /** Looks at some of the stored clients, once each; answers whether there are more. Default: there are none. */
  readonly lookAtClients?: () => Promise<boolean>
}

/** The worker that ends what is over. */
export interface Sweeper {
  /** Looks for jobs and erasures now: call it after `endAll` and `erase`. */
  wake(): void
  /** Stops after the batch under way; what is left is in the store. */
  stop(): Promise<void>
}

/** Milliseconds for which a batch's job is not given to another node; a node that dies holds it up for no longer. */
const lease = 30_000
/** Milliseconds until the store is asked again after it failed. */
const afterFailure = 1_000
/** Milliseconds a stop waits for a batch under way: a store that hangs keeps no process from ending. */
const lastWait = 5_000

/**
 * Starts ending what is over: OP sessions that a job of `endAll` refuses, at the job's rate, and OP sessions that expired,
 * for nothing else would tell their RPs; erases accounts, and forgets what was kept long enough (T30).
 *
 * It works in small batches, each one transaction, with a breath between them in which logins and deliveries go on. What is left
 * to do is in the store: a restart goes on where the last one stopped, and several nodes share the work, since only the
 * transaction that finds an OP session alive records that it ended.
 */
export function startSweeper(parts: SweeperParts): Sweeper {
  const { store, runtime, sweep, retention, log, lookAtClients = async () => false } = parts
  const bell = alarm(runtime)
  const pace = Math.ceil((sweep.batch * 1000) / sweep.perSecond)
  /** Milliseconds that the last batch of a job took. */
  let took = 0
  let stopping = false
  let nextSweep = runtime.now()

  async function work(): Promise<void> {
    let lastFailure: string | undefined
    while (!stopping) {
      try {
        const next = await turn()
        lastFailure = undefined
        await bell.sleepUntil(next)
      } catch (error) {
        const message = messageOf(error)
        if (message !== lastFailure) log({ event: 'op_failed', task: 'sweep', message })
        lastFailure = message
        await bell.sleepUntil(runtime.now() + afterFailure)
      }
    }
  }

  /** One batch of each kind of work; answers when there is more. */
  async function turn(): Promise<number> {
    await workOnJob()
    await erase()
    if (runtime.now() >= nextSweep) {
      const isMore = (await endExpired()) || (await forgetOld()) || (await lookAtClients())
      nextSweep = runtime.now() + (isMore ? pace : sweep.interval * 1000)
    }
    const others = await Promise.all([store.nextEndJobAt(), store.nextErasureAt()])
    return Math.min(nextSweep, ...others.map((at) => at ?? Number.POSITIVE_INFINITY))
  }

  async function workOnJob(): Promise<void> {
    const from = runtime.now()
    const claimed = await store.claimEndJob({ limit: sweep.batch, lease })
    if (!claimed) return
    const { job, next } = claimed
    if (job.state === 'done') {
      log({ event: 'end_job_done', jobId: job.id, cause: job.cause, ended: job.ended, total: job.total })
      return
    }
    const { cause, actor, reason } = job
    const ending = { cause, ...(actor !== undefined && { actor }), ...(reason !== undefined && { reason }) }
    // A batch begins when the pace says so, but no sooner than after a breath as long as the last one took: where batches are
    // slow, half of the time stays with logins.
    const breath = Math.max(pace - took, took)
    await endSessions(parts, next, ending, { id: job.id, pause: breath })
    took = runtime.now() - from
  }

  async function erase(): Promise<void> {
    const step = await store.eraseSome({ limit: sweep.batch, pause: pace, wait: sweep.interval * 1000 })
    if (step?.state === 'done') log({ event: 'account_erased', erasureId: step.id, pseudonym: step.pseudonym })
  }

  /** True when there may be more of them. */
  async function endExpired(): Promise<boolean> {
    const expired = await store.expiredOpSessions(sweep.batch)
    if (expired.length > 0) await endSessions(parts, expired, { cause: 'expired' })
    return expired.length === sweep.batch
  }

  /** True when there is more to forget. */
  async function forgetOld(): Promise<boolean> {
    const now = runtime.now()
    const before = { attempts: now - retention.attempts * 1000, logouts: now - retention.logouts * 1000 }
    return store.forget(before, sweep.batch)
  }

  const working = work()
  return {
    wake: () => bell.ring(),
    async stop() {
      stopping = true
      bell.ring()
      const over = new AbortController()
      await Promise.race([working.finally(() => over.abort()), pause(runtime, lastWait, over.signal)])
    },
  }
}

import * as oidc from 'openid-client'
import { alarm } from '../runtime/alarm.ts'
import type { OpConnection } from './connect-op.ts'
import { messageOf, type RpLog } from './log.ts'
import type { ResolvedRpOptions } from './options.ts'
import type { Sealer } from './seal.ts'
import type { Owed, RpSessionStore } from './store/contract.ts'

/** Pays what ended RP sessions owe the OP: the revocation of their refresh tokens (Back-Channel §2.7, T7). */
export interface TokenRevoker {
  /** Something new is owed. */
  wake(): void
  stop(): Promise<void>
}

interface Parts {
  readonly store: RpSessionStore
  readonly op: OpConnection
  readonly sealer: Sealer
  readonly options: Pick<ResolvedRpOptions<never>, 'runtime' | 'log'>
}

/** Milliseconds for which one process has a revocation in its hands: far longer than the OP may take. */
const LEASE = 60_000
const FIRST_RETRY = 1_000
const LONGEST_RETRY = 15 * 60_000
/** A week: a refresh token that nobody has used for so long has usually expired at the OP. */
const HORIZON = 7 * 86_400_000
/** How long to leave a store alone that has just failed. */
const STORE_PAUSE = 30_000

/** Starts at once, since a crash may have left something owed, and rests as long as nothing is. */
export function startTokenRevoker({ store, op, sealer, options }: Parts): TokenRevoker {
  const { runtime, log } = options
  const stopped = new AbortController()
  const bell = alarm(runtime)
  const running = run()

  async function run(): Promise<void> {
    while (!stopped.signal.aborted) {
      let pause: number
      try {
        for (const owed of await store.claimOwed({ limit: 10, lease: LEASE })) await pay(owed)
        pause = ((await store.nextOwedAt()) ?? Number.POSITIVE_INFINITY) - runtime.now()
      } catch (error) {
        if (stopped.signal.aborted) return
        log({ event: 'internal_error', route: 'revocation', message: messageOf(error) })
        pause = STORE_PAUSE
      }
      if (pause > 0) await bell.sleep(Math.min(pause, longestTimer(pause)), stopped.signal)
    }
  }

  async function pay(owed: Owed): Promise<void> {
    const token = await sealer.open('refresh-token', owed.debt)
    if (typeof token !== 'string') {
      log({
        event: 'revocation_given_up',
        attempts: owed.attempts,
        message: 'no secret opens the refresh token any more',
      })
      return store.settleOwed(owed.id, 'done')
    }
    const failure = await revoke(token, op)
    if (failure === undefined) return store.settleOwed(owed.id, 'done')
    return putOff(owed, messageOf(failure), log)
  }

  async function putOff(owed: Owed, message: string, tell: RpLog): Promise<void> {
    const now = runtime.now()
    if (now - owed.owedSince > HORIZON) {
      tell({ event: 'revocation_given_up', attempts: owed.attempts, message })
      return store.settleOwed(owed.id, 'done')
    }
    if (owed.attempts === 1) tell({ event: 'revocation_failed', attempts: owed.attempts, message })
    const ceiling = Math.min(LONGEST_RETRY, FIRST_RETRY * 2 ** Math.min(owed.attempts, 20))
    const chance = new DataView(runtime.random(4).buffer).getUint32(0) / 2 ** 32
    await store.settleOwed(owed.id, { retryAt: now + FIRST_RETRY + Math.floor(chance * ceiling) })
  }

  return {
    wake: bell.ring,
    async stop() {
      stopped.abort()
      await running
    },
  }
}

/** `undefined` when the token is worthless now, also because this OP revokes nothing or knows it no more. */
async function revoke(token: string, op: OpConnection): Promise<unknown> {
  try {
    const configuration = await op.configuration()
    if (configuration.serverMetadata().revocation_endpoint === undefined) return undefined
    await oidc.tokenRevocation(configuration, token, { token_type_hint: 'refresh_token' })
    return undefined
  } catch (error) {
    // RFC 7009 §2.2: a token that is invalid already is not an error; some OPs say so all the same.
    const isPointless =
      error instanceof oidc.ResponseBodyError && ['invalid_grant', 'invalid_token'].includes(error.error)
    return isPointless ? undefined : error
  }
}

/** Timers end at 2^31 ms; nothing owed needs none at all. */
function longestTimer(pause: number): number {
  return pause === Number.POSITIVE_INFINITY ? pause : 86_400_000
}

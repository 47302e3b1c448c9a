import { messageOf } from '../../runtime/message-of.ts'
import type { AboutDelivery, AboutFailure, OpLog } from '../log.ts'
import type { AttemptOutcome } from '../store/contract.ts'

/**
 * What a `Provider` emits, once per episode, whatever restarts and on however many nodes: by the node whose attempt
 * turned it. A node that dies in that very moment tells nobody, so an alarm that must not be missed also looks at
 * `op.deliveries.list({ state: 'dead' })`.
 */
export interface OpEvents {
  /** The fourth attempt at a delivery failed; it goes on. */
  'lockstep.delivery.failing': AboutDelivery & AboutFailure & { readonly retryAt: number }
  /** A delivery that was failing, refused or dead has been delivered. */
  'lockstep.delivery.recovered': AboutDelivery & { readonly status: number }
  /** A delivery was given up: the RP was never told, and somebody may still be signed in there. */
  'lockstep.delivery.dead': AboutDelivery &
    AboutFailure & {
      readonly why: 'refused' | Extract<AttemptOutcome, { state: 'dead' }>['why']
    }
  /** For an hour nothing but failures has come from an RP. `since` is epoch milliseconds. */
  'lockstep.client.unreachable': { readonly clientId: string; readonly since: number }
}

/** Tells the listeners of an event. */
export type Tell = <Name extends keyof OpEvents>(name: Name, event: OpEvents[Name]) => void

declare module 'oidc-provider' {
  interface Provider {
    on<Name extends keyof OpEvents>(name: Name, listener: (event: OpEvents[Name]) => void): this
    once<Name extends keyof OpEvents>(name: Name, listener: (event: OpEvents[Name]) => void): this
  }
}

/** Makes a {@link Tell}: a listener that throws stops no delivery. */
export function tellBy(emit: (name: string, event: unknown) => unknown, log: OpLog): Tell {
  return (name, event) => {
    try {
      emit(name, event)
    } catch (error) {
      log({ event: 'op_failed', task: name, message: messageOf(error) })
    }
  }
}

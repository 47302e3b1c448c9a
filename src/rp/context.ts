import type { OpConnection } from './connect-op.ts'
import type { ResolvedRpOptions } from './options.ts'
import type { Payer } from './pay-owed.ts'
import type { Sealer } from './seal.ts'
import type { StreamRegistry } from './session-events.ts'
import type { RpSessionStore } from './store/contract.ts'

/** What every route of one relying party works with. */
export interface RpContext<Data> {
  readonly options: ResolvedRpOptions<Data>
  readonly store: RpSessionStore
  readonly op: OpConnection
  readonly sealer: Sealer
  readonly revoker: Payer
  /** Absent where nothing is downstream. */
  readonly cascade: Payer | undefined
  readonly streams: StreamRegistry
}

/** Epoch seconds. */
export function seconds({ options }: { readonly options: Pick<ResolvedRpOptions<never>, 'runtime'> }): number {
  return Math.floor(options.runtime.now() / 1000)
}

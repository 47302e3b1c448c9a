import type { Adapter } from 'oidc-provider'
import type { OpIssuerStore } from '../store/contract.ts'
import type { BearerKey } from '../stored-bearers.ts'
import { plainAdapter } from './plain-adapter.ts'
import { type SessionAdapterParts, sessionAdapter } from './session-adapter.ts'

/** What the storage adapter needs beside the store. */
export interface ModelAdapterParts extends SessionAdapterParts {
  readonly bearerKey: BearerKey
}

/**
 * Builds oidc-provider's storage adapter on the OP store: bearer values go in as SHA-256 and never come out again; the few
 * that must come out go in encrypted (T6).
 */
export function modelAdapter(store: OpIssuerStore, parts: ModelAdapterParts): (kind: string) => Adapter {
  return (kind) => (kind === 'Session' ? sessionAdapter(store, parts) : plainAdapter(store, kind, parts.bearerKey))
}

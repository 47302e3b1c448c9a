import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ClientMetadata } from 'oidc-provider'
import { type Asked, startAsked } from './asked-process.ts'
import type { FanOutOpParts, OpOrder } from './fan-out-op.ts'
import type { RpsOrder } from './fan-out-rps.ts'
import type { Figure } from './report.ts'

/** An OP in a process of its own. */
export interface BenchOp {
  readonly kind: 'ours' | 'stock'
  readonly issuer: string
  readonly clients: readonly Client[]
  ask(order: OpOrder): Promise<unknown>
  stop(): Promise<void>
}

/** The RPs' process. */
export interface BenchRps {
  readonly urls: readonly string[]
  /** Where nobody listens. */
  readonly refusing: string
  ask(order: RpsOrder): Promise<unknown>
}

export type Client = ClientMetadata & { readonly client_id: string; readonly client_secret: string }

/** Clients whose back-channel logout URIs are these. */
export function clientsOf(urls: readonly string[], alg: 'RS256' | 'ES256'): Client[] {
  return urls.map((url, i) => ({
    client_id: `rp-${i}`,
    client_secret: `the secret of rp-${i}, long enough for a MAC`,
    redirect_uris: [`${new URL(url).origin}/cb`],
    post_logout_redirect_uris: [`${new URL(url).origin}/bye`],
    token_endpoint_auth_method: 'client_secret_post',
    id_token_signed_response_alg: alg,
    backchannel_logout_uri: url,
    backchannel_logout_session_required: true,
  }))
}

export async function startOp(parts: FanOutOpParts & { readonly clients: readonly Client[] }): Promise<BenchOp> {
  const { kind, clients } = parts
  const file = join(parts.folder, `${kind}.json`) // a thousand clients are too many for an argument
  writeFileSync(file, JSON.stringify(parts))
  const child: Asked<OpOrder> = await startAsked<OpOrder>('fan-out-op.ts', [file])
  return { kind, clients, issuer: child.greeting as string, ask: child.ask, stop: child.stop }
}

/** A figure of ours that has nothing beside it yet. */
export function figure(id: string, unit: string, ours: number): Figure {
  return {
    id,
    unit,
    ours,
    peer: null,
    limit: null,
    ratioToPeer: null,
    ratioToLimit: null,
    spread: null,
    goal: null,
    met: null,
  }
}

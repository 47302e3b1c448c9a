import { decodeJwt, decodeProtectedHeader, type JWTPayload, type ProtectedHeaderParameters } from 'jose'
import type { Client, Provider as OidcProvider } from 'oidc-provider'
import { LockstepError } from '../../protocol/errors.ts'
import { isOfUnknownKey } from '../provider-seam.ts'

/** What an RP asks of the Logout Endpoint, validated (RP-Initiated §2). */
export interface LogoutRequest {
  readonly client?: Client
  /** The OP session and account the hint names; only from a hint that this OP signed. */
  readonly hint?: { readonly sid: string | undefined; readonly sub: string | undefined }
  /** Registered for `client`, by exact match. */
  readonly postLogoutRedirectUri?: string
  readonly state?: string
}

const KNOWN = ['id_token_hint', 'logout_hint', 'client_id', 'post_logout_redirect_uri', 'state', 'ui_locales'] as const

/**
 * Bytes of `state` at most, as it stands in the URL that it is returned in: on its way there it is in URLs of ours, sealed and so up
 * to twice as long, and servers take no longer header lines than 16 kB, many proxies 8 kB.
 */
const STATE_LIMIT = 4096

/**
 * Validates a logout request; whatever is wrong with it makes the whole request fail, so that nothing redirects on a
 * detected error (RP-Initiated §4).
 *
 * @throws LockstepError `logout_request_invalid`, with a sentence for the RP's developer.
 */
export async function validateLogoutRequest(provider: OidcProvider, params: URLSearchParams): Promise<LogoutRequest> {
  for (const name of KNOWN) {
    if (params.getAll(name).length > 1) throw invalid(`"${name}" was sent more than once`)
  }
  const hintJwt = params.get('id_token_hint') || undefined
  const clientId = params.get('client_id') || undefined
  const uri = params.get('post_logout_redirect_uri') || undefined
  const state = params.get('state') ?? undefined
  if (state !== undefined && encodeURIComponent(state).length > STATE_LIMIT) {
    throw invalid(
      `"state" is longer than ${STATE_LIMIT} bytes in a URL; keep what is long in the app and send a short name for it`,
    )
  }

  const hint = hintJwt === undefined ? undefined : await validateHint(provider, hintJwt, clientId)
  if (hintJwt !== undefined && !hint) return {} // neither what it says is believed nor whom it vouches for
  const client = hint?.client ?? (clientId === undefined ? undefined : await findClient(provider, clientId))
  if (client && uri !== undefined && !client.postLogoutRedirectUris?.includes(uri)) {
    throw invalid('"post_logout_redirect_uri" is not one that this client registered, character for character')
  }
  return {
    ...(client ? { client } : {}),
    ...(hint ? { hint: { sid: hint.sid, sub: hint.sub } } : {}),
    // Without a client there is nothing to hold the URI against, so it is not used (RP-Initiated §3).
    ...(client && uri !== undefined ? { postLogoutRedirectUri: uri } : {}),
    ...(state === undefined ? {} : { state }),
  }
}

/** `undefined` for a hint whose key was withdrawn: that is no fault of the app's, so the End-User is asked as without one (T26). */
async function validateHint(
  provider: OidcProvider,
  jwt: string,
  clientId: string | undefined,
): Promise<{ client: Client; sid: string | undefined; sub: string | undefined } | undefined> {
  const { header, claims } = decodeHint(jwt)
  const { typ } = header
  if (
    (typeof typ === 'string' && typ.toLowerCase().replace('application/', '') === 'logout+jwt') ||
    'events' in claims
  ) {
    throw invalid('"id_token_hint" is a Logout Token; send the ID Token of the login')
  }
  const audience = typeof claims.aud === 'string' ? claims.aud : claims.aud?.length === 1 ? claims.aud[0] : claims.azp
  if (typeof audience !== 'string') throw invalid('"id_token_hint" does not name one client in "aud"')
  if (clientId !== undefined && clientId !== audience) {
    throw invalid('"client_id" is not the client that "id_token_hint" was issued to')
  }
  const client = await findClient(provider, audience)
  try {
    await provider.IdToken.validate(jwt, client) // signature, issuer, audience; expired hints are fine (RP-Initiated §2)
  } catch (cause) {
    const mayHaveBeenOurs = claims.iss === provider.issuer && header.alg === client.idTokenSignedResponseAlg
    if (mayHaveBeenOurs && header.kid !== undefined && isOfUnknownKey(cause)) return undefined
    throw invalid('"id_token_hint" was not issued by this OP', cause)
  }
  const { sid, sub } = claims
  return { client, sid: typeof sid === 'string' ? sid : undefined, sub }
}

function decodeHint(jwt: string): { header: ProtectedHeaderParameters; claims: JWTPayload } {
  try {
    return { header: decodeProtectedHeader(jwt), claims: decodeJwt(jwt) }
  } catch (cause) {
    throw invalid('"id_token_hint" is not a JWT', cause)
  }
}

async function findClient(provider: OidcProvider, clientId: string): Promise<Client> {
  const client = await provider.Client.find(clientId)
  if (!client) throw invalid('"client_id" or the audience of "id_token_hint" is not a client of this OP')
  return client
}

function invalid(message: string, cause?: unknown): LockstepError {
  return new LockstepError('logout_request_invalid', message, { cause })
}

/** The post-logout redirect, with `state` byte for byte and an existing query kept (RP-Initiated §2, §3). */
export function postLogoutRedirect({ uri, state }: { uri: string; state: string | undefined }): string {
  if (state === undefined) return uri
  return `${uri}${uri.includes('?') ? '&' : '?'}state=${encodeURIComponent(state)}`
}

/** What decides whether the End-User must be asked. */
export interface AskInput {
  readonly hint: LogoutRequest['hint']
  /** What the current OP session knows of the client: its `sid`, and the `sub` this client knows the user by. */
  readonly current: { readonly sid: string | undefined; readonly sub: string | undefined }
  readonly method: string
  readonly secFetchDest: string | undefined
  readonly secPurpose: string | undefined
}

/**
 * Whether the End-User must confirm: always, unless a top-level navigation brings a hint of exactly this OP session and
 * this user (RP-Initiated §2 MUST; T12: an image, a prefetch or somebody else's old token never logs out). HEAD, by which nobody
 * asks for anything to happen (RFC 9110 §9.2.1), is answered with the way to the question too.
 */
export function mustAsk({ hint, current, method, secFetchDest, secPurpose }: AskInput): boolean {
  const isThisSession =
    hint?.sid !== undefined && hint.sid === current.sid && hint.sub !== undefined && hint.sub === current.sub
  return !(isThisSession && method !== 'HEAD' && secFetchDest === 'document' && secPurpose === undefined)
}

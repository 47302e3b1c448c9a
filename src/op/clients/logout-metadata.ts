import { type ClientMetadata, errors } from 'oidc-provider'

/** Client metadata of Front-Channel Logout, which oidc-provider does not know. */
export const FRONTCHANNEL_METADATA = ['frontchannel_logout_uri', 'frontchannel_logout_session_required'] as const

/** Where a client comes from. */
export interface Registration {
  readonly issuer: string
  /** True for Dynamic Client Registration, false for a client that the operator wrote down. */
  readonly registersItself: boolean
  /** Whether one that registers itself may name a `backchannel_logout_uri` of another origin than its redirect URIs'. */
  readonly allowsForeignLogoutUri: boolean
}

/**
 * Checks where a client wants to hear of logouts, and fills in the default of `frontchannel_logout_session_required`.
 *
 * `http` is for confidential clients (Front-Channel §2, Back-Channel §2.2), in registration only at a development OP (T24).
 * A frame takes `http` only where the OP itself is `http`: browsers block it inside an `https` page.
 * Who registers itself is told of logouts where it signs users in, at the origin of a redirect URI, so that nobody has the OP
 * send POSTs to a third party (T8).
 *
 * @throws InvalidClientMetadata naming the member and the rule.
 */
export function checkLogoutMetadata(
  metadata: ClientMetadata,
  { issuer, registersItself, allowsForeignLogoutUri }: Registration,
): void {
  const { backchannel_logout_uri: backchannel, frontchannel_logout_uri: frontchannel } = metadata
  const isPublic = metadata.token_endpoint_auth_method === 'none'
  const isHttpOp = issuer.startsWith('http:')

  if (backchannel !== undefined) {
    const { protocol, origin } = checked('backchannel_logout_uri', backchannel)
    if (protocol === 'http:' && (isPublic || (registersItself && !isHttpOp))) {
      throw refused('backchannel_logout_uri', 'must be https')
    }
    if (registersItself && !allowsForeignLogoutUri && !sharesOrigin(metadata, origin)) {
      throw refused('backchannel_logout_uri', 'must share scheme, host and port with one of redirect_uris')
    }
  }
  if (frontchannel !== undefined) {
    const { protocol, origin, hostname } = checked('frontchannel_logout_uri', frontchannel)
    if (protocol === 'http:' && (isPublic || !isHttpOp)) throw refused('frontchannel_logout_uri', 'must be https')
    if (hostname.startsWith('[')) {
      throw refused('frontchannel_logout_uri', 'must name a host: browsers load no frame from an IPv6 address')
    }
    // The origin goes into the page's Content-Security-Policy, where these would widen it or end it.
    if (/[*;,]/.test(hostname)) throw refused('frontchannel_logout_uri', 'must name one host')
    if (!sharesOrigin(metadata, origin)) {
      throw refused('frontchannel_logout_uri', 'must share scheme, host and port with one of redirect_uris')
    }
  }
  const required = metadata.frontchannel_logout_session_required
  if (required !== undefined && typeof required !== 'boolean') {
    throw refused('frontchannel_logout_session_required', 'must be a boolean')
  }
  metadata.frontchannel_logout_session_required = required ?? false
}

function sharesOrigin({ redirect_uris: uris = [] }: ClientMetadata, origin: string): boolean {
  return uris.some((uri) => URL.parse(uri)?.origin === origin)
}

function checked(name: string, uri: unknown): URL {
  const url = typeof uri === 'string' ? URL.parse(uri) : null
  if (!url || (url.protocol !== 'https:' && url.protocol !== 'http:'))
    throw refused(name, 'must be an absolute web URI')
  if (String(uri).includes('#')) throw refused(name, 'must not have a fragment')
  if (url.username !== '' || url.password !== '') throw refused(name, 'must not have a user name or a password')
  return url
}

function refused(name: string, rule: string): errors.InvalidClientMetadata {
  return new errors.InvalidClientMetadata(`${name} ${rule}`)
}

import { type ClientMetadata, errors } from 'oidc-provider'

/**
 * Refuses `http` as the way back of a public client, which RP-Initiated Logout §3.1 leaves to confidential ones. Loopback
 * may be http for everybody: that is who develops, and apps on the user's own machine.
 *
 * @throws InvalidClientMetadata naming the member and the rule.
 */
export function checkPostLogoutUris(metadata: ClientMetadata): void {
  const { token_endpoint_auth_method: method, post_logout_redirect_uris: uris } = metadata
  if (method === 'none' && uris?.some(isPlainHttp)) {
    throw new errors.InvalidClientMetadata('post_logout_redirect_uris of a public client must not be http')
  }
}

function isPlainHttp(uri: string): boolean {
  const url = URL.parse(uri)
  if (url?.protocol !== 'http:') return false
  return !/^(?:localhost|.+\.localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(url.hostname)
}

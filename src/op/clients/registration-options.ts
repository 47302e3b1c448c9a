/**
 * What clients that register themselves may do, where oidc-provider's `features.registration` is on (off by default). Who may
 * register may name URLs to which this OP will send POSTs, so both switches open an attack on third parties (T8).
 */
export interface RegistrationOptions {
  /** Lets anybody register, without an initial access token. Default false. */
  dangerouslyAllowAnyone?: boolean
  /** Takes a `backchannel_logout_uri` that shares its origin with none of the client's `redirect_uris`. Default false. */
  dangerouslyAllowForeignLogoutUri?: boolean
}

/** Checks the options and fills in the defaults; a wrong one is a `TypeError` that names it. */
export function resolveRegistrationOptions(options: RegistrationOptions = {}): Required<RegistrationOptions> {
  const resolved = { dangerouslyAllowAnyone: false, dangerouslyAllowForeignLogoutUri: false, ...options }
  for (const [name, value] of Object.entries(resolved)) {
    if (name !== 'dangerouslyAllowAnyone' && name !== 'dangerouslyAllowForeignLogoutUri') {
      throw new TypeError(`registration.${name} is not an option of Lockstep's Provider`)
    }
    if (typeof value !== 'boolean') throw new TypeError(`registration.${name} must be true or false`)
  }
  return resolved
}

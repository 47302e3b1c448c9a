import { createHash } from 'node:crypto'
import type { ClientMetadata, Configuration, interactionPolicy } from 'oidc-provider'
import { CLIENT_METADATA, checkClientMetadata, LOGOUT_DETAILS } from './clients/client-metadata.ts'
import { checkLogoutMetadata, FRONTCHANNEL_METADATA } from './clients/logout-metadata.ts'
import type { RegistrationOptions } from './clients/registration-options.ts'
import { checkPostLogoutUris } from './logout/post-logout-uris.ts'
import { completePolicy, promptValues } from './prompts.ts'
import { isUnseenProbe } from './unseen.ts'

/** The names of the cookies an OP sets, so that two OPs on one host (ports share cookies) do not overwrite each other. */
export interface CookieNames {
  readonly session: string
  readonly browserState: string
  readonly lastLogout: string
  readonly userSwitch: string
  /** What the names of the cookies of logins begin with. */
  readonly logins: string
  /** The cookies of a login under way. */
  readonly interaction: string
  readonly resume: string
}

/** What Lockstep adds to oidc-provider's configuration. */
export interface ConfigurationParts {
  readonly issuer: string
  readonly adapter: NonNullable<Configuration['adapter']>
  readonly fetch: NonNullable<Configuration['fetch']>
  readonly checkSessionPath: string
  /** The first step of each authorization request, and the last before a login is granted. */
  readonly firstPrompt: interactionPolicy.Prompt
  readonly lastPrompt: interactionPolicy.Prompt
  /** What clients that register themselves may do. */
  readonly registration: Required<RegistrationOptions>
  /** Whether there are keys to encrypt client secrets under. */
  readonly encrypts: boolean
  /** Whether the OP takes prompt=create. */
  readonly promptCreate: boolean
}

/** A configuration that oidc-provider takes, and what it says that oidc-provider does not know. */
export interface CompleteConfiguration {
  readonly configuration: Configuration
  readonly cookieNames: CookieNames
  /** Holds a client that the operator wrote down or stored against Lockstep's own rules. @throws InvalidClientMetadata */
  readonly checkClient: (metadata: ClientMetadata) => void
}

/** Path of the OP iframe below the issuer. */
export const CHECK_SESSION_PATH = '/session/check'

/**
 * Completes an oidc-provider configuration with what session management and logout need.
 *
 * @throws TypeError naming the key, where the configuration contradicts Lockstep's.
 */
export function completeConfiguration(given: Configuration, parts: ConfigurationParts): CompleteConfiguration {
  refuse(given.adapter !== undefined, 'adapter', "is replaced by Lockstep's store; remove it")
  refuse(given.enableHttpPostMethods === false, 'enableHttpPostMethods', 'must be on: the Logout Endpoint takes POST')
  const { sameSite, secure } = given.cookies?.long ?? {}
  refuse(
    ![undefined, 'none', 'lax'].includes(sameSite as string | undefined),
    'cookies.long.sameSite',
    'must be "none" (the default) or "lax": with another value nobody who comes from an app is signed in at the OP. What Lax takes away is in docs/mounting.md (T5)',
  )
  refuse(secure === false, 'cookies.long.secure', 'must not be false')
  const keys = given.cookies?.keys
  refuse(
    keys === undefined || (Array.isArray(keys) && keys.length === 0),
    'cookies.keys',
    'is missing: the OP cookie must be signed; openSecrets(store, issuer) makes keys and keeps them',
  )
  const { rpInitiatedLogout, backchannelLogout, registration, ciba, clientIdMetadataDocument } = given.features ?? {}
  refuse(rpInitiatedLogout?.enabled === false, 'features.rpInitiatedLogout.enabled', 'must not be false')
  refuse(backchannelLogout?.enabled === false, 'features.backchannelLogout.enabled', 'must not be false')
  refuse(
    clientIdMetadataDocument?.enabled === true,
    'features.clientIdMetadataDocument.enabled',
    'must not be true: anybody could have Logout Tokens sent to a URL of their choice (T8), and each logout would wait for a document at their host. Register such clients',
  )

  refuse(
    registration?.enabled === true && !registration.initialAccessToken && !parts.registration.dangerouslyAllowAnyone,
    'features.registration.initialAccessToken',
    'is missing: without one anybody may register clients and have Logout Tokens sent to their URLs (T8). Set it, or the option registration.dangerouslyAllowAnyone',
  )

  const secretive =
    registration?.enabled === true
      ? 'features.registration'
      : ciba?.enabled === true && [...(ciba.deliveryModes ?? [])].includes('ping')
        ? 'features.ciba.deliveryModes'
        : undefined
  refuse(
    secretive !== undefined && !parts.encrypts,
    secretive ?? '',
    'needs the option encryptionKeys: without it the secrets of clients would stand in the store in clear (T6). Give the keys that openSecrets is given',
  )

  const cookieNames = namesFor(given, parts.issuer)
  const { findAccount } = given
  const [logoutUri, sessionRequired] = FRONTCHANNEL_METADATA
  const own: readonly string[] = [...FRONTCHANNEL_METADATA, ...CLIENT_METADATA]
  /** Checks one of Lockstep's own members, and with it those of oidc-provider's that it has rules about. */
  const check = (registersItself: boolean, key: string, metadata: ClientMetadata): void => {
    if (CLIENT_METADATA.includes(key)) checkClientMetadata(registersItself, key, metadata[key], metadata)
    if (key === logoutUri) {
      const allowsForeignLogoutUri = parts.registration.dangerouslyAllowForeignLogoutUri
      checkLogoutMetadata(metadata, { issuer: parts.issuer, registersItself, allowsForeignLogoutUri })
    }
    if (key === LOGOUT_DETAILS) checkPostLogoutUris(metadata) // once per client is enough
  }
  const policy = completePolicy(parts, given.interactions?.policy)
  const configuration: Configuration = {
    ...given,
    adapter: parts.adapter,
    fetch: parts.fetch,
    enableHttpPostMethods: sameSite !== 'lax', // oidc-provider's condition; the Logout Endpoint is ours and takes POST in any case
    cookies: {
      ...given.cookies,
      names: {
        ...given.cookies?.names,
        session: cookieNames.session,
        interaction: cookieNames.interaction,
        resume: cookieNames.resume,
      },
      long: { httpOnly: true, signed: true, sameSite: 'none', ...given.cookies?.long, secure: true },
      short: { httpOnly: true, signed: true, sameSite: 'lax', secure: true, ...given.cookies?.short },
    },
    interactions: { ...given.interactions, policy },
    ...(findAccount && {
      findAccount: (ctx, ...which) =>
        ctx.oidc.route === 'authorization' && isUnseenProbe(ctx) ? undefined : findAccount(ctx, ...which),
    }),
    features: {
      ...given.features,
      rpInitiatedLogout: { ...rpInitiatedLogout, enabled: true },
      backchannelLogout: { ...backchannelLogout, enabled: true },
    },
    discovery: {
      ...given.discovery,
      check_session_iframe: parts.issuer.replace(/\/$/, '') + parts.checkSessionPath,
      frontchannel_logout_supported: true,
      frontchannel_logout_session_supported: true,
      prompt_values_supported: promptValues(policy),
    },
    extraClientMetadata: {
      properties: [...(given.extraClientMetadata?.properties ?? []), ...own],
      validator: (ctx, key, value, metadata) => {
        if (!own.includes(key)) given.extraClientMetadata?.validator?.(ctx, key, value, metadata)
        else if (key !== sessionRequired) check(ctx !== undefined, key, metadata)
      },
    },
  }
  const checkClient = (metadata: ClientMetadata): void => {
    for (const key of own) check(false, key, metadata)
  }
  return { configuration, cookieNames, checkClient }
}

function namesFor(given: Configuration, issuer: string): CookieNames {
  const suffix = createHash('sha256').update(issuer).digest('base64url').slice(0, 8)
  const { domain, path = '/' } = given.cookies?.long ?? {}
  const prefix = domain === undefined && path === '/' ? '__Host-' : '__Secure-'
  const ofLogin = given.cookies?.short?.secure === false ? '' : '__Secure-' // oidc-provider binds them to a path
  const names = given.cookies?.names
  return {
    interaction: names?.interaction ?? `${ofLogin}op_interaction.${suffix}`,
    resume: names?.resume ?? `${ofLogin}op_resume.${suffix}`,
    session: names?.session ?? `${prefix}op_session.${suffix}`,
    browserState: `__Host-op_state.${suffix}`,
    lastLogout: `__Host-op_logout.${suffix}`,
    userSwitch: `__Host-op_switch.${suffix}`,
    logins: `__Host-op_login.${suffix}.`,
  }
}

function refuse(wrong: boolean, key: string, why: string): void {
  if (wrong) throw new TypeError(`configuration.${key} ${why}`)
}

import type { OpSecrets, SigningAlgorithm } from 'lockstep/op'
import type { Configuration, KoaContextWithOIDC } from 'oidc-provider'
import type { Accounts } from './accounts.ts'

const MINUTE = 60
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR

/** What oidc-provider is told, beside what `lockstep/op` adds to it. */
export interface ConfigurationInput {
  readonly clients: NonNullable<Configuration['clients']>
  readonly accounts: Accounts
  readonly secrets: OpSecrets
  /** Path under which this OP lives, without a slash at its end. */
  readonly base: string
  readonly signingAlg: SigningAlgorithm
  readonly renderError: NonNullable<Configuration['renderError']>
}

/** Builds oidc-provider's configuration for first-party clients: no consent page, claims in the ID Token. */
export function providerConfiguration(input: ConfigurationInput): Configuration {
  const { clients, accounts, secrets, base, signingAlg, renderError } = input
  return {
    clients: [...clients],
    clientDefaults: { id_token_signed_response_alg: signingAlg },
    jwks: { keys: [...secrets.jwks.keys] },
    cookies: { keys: [...secrets.cookieKeys] },
    findAccount: (_ctx, sub) => {
      const account = accounts.find(sub)
      return account && { accountId: sub, claims: () => ({ ...account.claims, sub }) }
    },
    interactions: { url: (_ctx, interaction) => `${base}/interaction/${interaction.uid}` },
    loadExistingGrant: grantWhatIsAsked,
    scopes: ['openid', 'profile', 'email', 'offline_access'],
    claims: {
      profile: [
        'name',
        'family_name',
        'given_name',
        'middle_name',
        'nickname',
        'preferred_username',
        'profile',
        'picture',
        'website',
        'gender',
        'birthdate',
        'zoneinfo',
        'locale',
        'updated_at',
      ],
      email: ['email', 'email_verified'],
    },
    conformIdTokenClaims: false, // apps read the name from the ID Token instead of asking once more
    pkce: { required: (_ctx, client) => client.tokenEndpointAuthMethod === 'none' },
    clientBasedCORS: (_ctx, origin, client) =>
      client.redirectUris?.some((uri) => URL.parse(uri)?.origin === origin) ?? false,
    features: {
      devInteractions: { enabled: false },
      revocation: { enabled: true },
      introspection: { enabled: true },
    },
    renderError,
    ttl: {
      AccessToken: 10 * MINUTE,
      AuthorizationCode: MINUTE,
      Grant: 14 * DAY,
      IdToken: HOUR,
      Interaction: HOUR,
      RefreshToken: 14 * DAY,
      Session: 14 * DAY,
    },
  }
}

/**
 * Grants a first-party client what it asks for: the operator configured it, so nobody is asked (one grant per OP session
 * and client, so that a logout in one browser never kills the tokens of another).
 */
async function grantWhatIsAsked(ctx: KoaContextWithOIDC) {
  const { session, client, provider, result, requestParamScopes, requestParamClaims, resourceServers } = ctx.oidc
  if (!client || !session?.accountId) return undefined
  const known = result?.consent?.grantId ?? session.grantIdFor(client.clientId)
  const grant =
    (known === undefined ? undefined : await provider.Grant.find(known)) ??
    new provider.Grant({ clientId: client.clientId, accountId: session.accountId })
  if (requestParamScopes.size > 0) grant.addOIDCScope([...requestParamScopes].join(' '))
  if (requestParamClaims.size > 0) grant.addOIDCClaims([...requestParamClaims])
  for (const [identifier, { scope }] of Object.entries(resourceServers ?? {})) {
    if (scope) grant.addResourceScope(identifier, scope)
  }
  await grant.save()
  return grant
}

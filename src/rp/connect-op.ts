import type { JWTVerifyGetKey } from 'jose'
import * as oidc from 'openid-client'
import { LockstepError } from '../protocol/errors.ts'
import { boundedFetch } from '../runtime/bounded-fetch.ts'
import { CONTENT_ENCRYPTION } from './decrypt-token.ts'
import { whatCameBack, whatIsWrongWith } from './op-answer.ts'
import { createRest, opKeys } from './op-keys.ts'
import type { ResolvedAppOptions, ResolvedRpOptions } from './options.ts'

/** The OP as this RP knows it: found at first use, and asked again at the next use when it could not be reached. */
export interface OpConnection {
  /** @throws LockstepError `op_unreachable` naming the URL; logged once until the OP is back. */
  configuration(): Promise<oidc.Configuration>
  /**
   * The same for sending a browser there: asked again when the last answer is older than half a minute, so that nobody
   * ends at an address that is dead by now.
   *
   * @throws LockstepError `op_unreachable`
   */
  reachable(): Promise<oidc.Configuration>
  /** What is known already; what is not is looked for in the background, and that never throws. */
  known(): oidc.Configuration | undefined
  /**
   * Finds the key of a JWT among the OP's. After a failure the OP is left alone for a few seconds, since anybody may post
   * what makes us ask; what is known goes on being used.
   */
  keys(): Promise<JWTVerifyGetKey>
}

/** Seconds the OP has for one answer: a user waits for it. Always the same, so that what could be begun can be done again. */
const TIMEOUT = 5
/** Milliseconds for which an answer shows that the OP is there. */
const FRESH = 30_000
/** Milliseconds after which what the OP says of itself is looked at again in the background. */
const AGED = 600_000
/** Milliseconds between two attempts at that. */
const LOOK_AGAIN = 30_000

/** How this client proves itself to the OP; who only hears logouts has no need to. */
export type ClientProof = Pick<ResolvedRpOptions<never>, 'clientSecret' | 'tokenEndpointAuthMethod'>

export function connectOp(options: ResolvedAppOptions & Partial<ClientProof>): OpConnection {
  const url = `${options.issuer.replace(/\/$/, '')}/.well-known/openid-configuration`
  let finding: Promise<oidc.Configuration> | undefined
  let known: oidc.Configuration | undefined
  let foundAt = 0
  let lookedAt = 0
  let keys: { readonly of: oidc.Configuration; readonly uri: string; readonly find: JWTVerifyGetKey } | undefined
  let reported = false
  const rest = createRest(options.runtime)

  async function discover(): Promise<oidc.Configuration> {
    try {
      const configuration = await oidc.discovery(
        new URL(options.issuer),
        options.clientId,
        {
          ...(options.clientSecret === undefined ? {} : { client_secret: options.clientSecret }),
          id_token_signed_response_alg: options.alg,
        },
        clientAuthentication(options),
        {
          timeout: TIMEOUT,
          [oidc.customFetch]: boundedFetch,
          ...(options.allowHttp ? { execute: [oidc.allowInsecureRequests] } : {}),
        },
      )
      const wrong = whatIsWrongWith(configuration.serverMetadata(), options)
      if (wrong !== undefined) throw new Error(wrong)
      if (options.decryptionKeys.length > 0) {
        oidc.enableDecryptingResponses(configuration, [...CONTENT_ENCRYPTION], ...options.decryptionKeys)
      }
      if (reported) options.log({ event: 'op_reachable', url })
      reported = false
      known = configuration
      foundAt = options.runtime.now()
      return configuration
    } catch (cause) {
      if (!reported) options.log({ event: 'op_unreachable', url, message: whatCameBack(cause) })
      reported = true
      const error = new LockstepError('op_unreachable', `The OpenID Provider gave no usable answer at ${url}`, {
        cause,
      })
      rest.begin(error)
      throw error
    }
  }

  function find(): Promise<oidc.Configuration> {
    finding ??= discover().finally(() => {
      finding = undefined
    })
    return finding
  }

  /** In the background; a failure is logged where it happens, and what is known goes on being used. */
  function lookAgain(): void {
    const now = options.runtime.now()
    if (now - foundAt < AGED || now - lookedAt < LOOK_AGAIN) return
    lookedAt = now
    find().catch(() => undefined)
  }

  async function configuration(): Promise<oidc.Configuration> {
    if (known === undefined) return find()
    lookAgain() // its keys and endpoints may have moved, and not every app has logins that would notice
    return known
  }

  return {
    configuration,
    async reachable() {
      return known !== undefined && options.runtime.now() - foundAt < FRESH ? known : find()
    },
    known() {
      // A failure is logged where it happens, and the next use tries again: not at once, since anybody may ask for a frame.
      if (known === undefined && rest.failure() === undefined) configuration().catch(() => undefined)
      return known
    },
    async keys() {
      const failure = known === undefined ? rest.failure() : undefined
      if (failure) throw failure.error
      const found = await configuration()
      if (keys?.of === found) return keys.find // asking for its metadata copies them all
      const { jwks_uri: uri } = found.serverMetadata()
      if (uri === undefined) throw new LockstepError('op_answer_invalid', `${url} has no jwks_uri`)
      const find = keys?.uri === uri ? keys.find : opKeys(uri, options.runtime, TIMEOUT * 1000)
      keys = { of: found, uri, find }
      return keys.find
    },
  }
}

function clientAuthentication({ clientSecret, tokenEndpointAuthMethod }: Partial<ClientProof>): oidc.ClientAuth {
  if (clientSecret === undefined) return oidc.None()
  return tokenEndpointAuthMethod === 'client_secret_post'
    ? oidc.ClientSecretPost(clientSecret)
    : oidc.ClientSecretBasic(clientSecret)
}

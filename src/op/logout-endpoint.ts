import type { Client, Provider as OidcProvider, Session } from 'oidc-provider'
import { LockstepError } from '../protocol/errors.ts'
import type { Runtime } from '../runtime/runtime.ts'
import type { Ending } from './end-session.ts'
import { type Answer, type HttpRequest, TooLarge } from './http.ts'
import { confirmPage, logoutErrorPage, signedOutPage, stayedPage } from './logout-pages.ts'
import { type LogoutRequest, mustAsk, postLogoutRedirect, validateLogoutRequest } from './logout-request.ts'
import { type PendingLogout, seal, unseal } from './sealed-request.ts'
import type { EndedOpSession, OpIssuerStore } from './store/contract.ts'

/** Milliseconds the redirect waits for first attempts: RPs are told first (RP-Initiated §2), but nobody waits for a dead one. */
const WAIT = 1000

/** Bytes of a logout request: an encrypted ID Token with many claims fits. */
const BODY_LIMIT = 65_536

/** Where the Logout Endpoint's pages live, below the path of `end_session_endpoint`. */
export interface LogoutPaths {
  readonly endpoint: string
  readonly ask: string
  readonly signedOut: string
}

/** What the Logout Endpoint is built from. */
export interface LogoutEndpointParts {
  readonly provider: OidcProvider
  readonly store: Pick<OpIssuerStore, 'getLogout'>
  readonly runtime: Pick<Runtime, 'now'>
  /** Absolute paths as a browser sees them, mount path included. */
  readonly paths: LogoutPaths
  /** 256-bit key that seals pending requests. */
  readonly sealingKey: Uint8Array
  readonly end: (uid: string, ending: Ending) => Promise<EndedOpSession | undefined>
  /** Resolves when each RP of a logout was tried once, or after so many milliseconds. */
  readonly firstAttempts: (logoutId: string, ms: number) => Promise<void>
  /** The `sub` by which a client knows an account (pairwise subjects differ), `undefined` when that cannot be told. */
  readonly subFor: (accountId: string, client: Client) => Promise<string | undefined>
  readonly accountName: (accountId: string) => Promise<string>
}

/** The browser's side of a logout request. */
export interface LogoutExchange {
  readonly request: HttpRequest
  readonly session: Session
  /** Id of the logout this browser just made, from its short-lived cookie. */
  readonly lastLogout: string | undefined
  /** Clears the OP cookie, rotates the browser state, and remembers the logout for its signed-out page. */
  signedOut(logoutId: string | undefined): Promise<void>
}

/** The Logout Endpoint and its two pages. */
export interface LogoutEndpoint {
  endpoint(exchange: LogoutExchange): Promise<Answer>
  ask(exchange: LogoutExchange): Promise<Answer>
  answer(exchange: LogoutExchange): Promise<Answer>
  signedOut(exchange: LogoutExchange): Promise<Answer>
}

/**
 * Builds the Logout Endpoint: GET and POST, confirmation by the user unless the hint is of this very OP session, no
 * redirect on any error, and the RPs told before the post-logout redirect.
 *
 * @see {@link https://openid.net/specs/openid-connect-rpinitiated-1_0.html | RP-Initiated Logout 1.0}
 */
export function logoutEndpoint(parts: LogoutEndpointParts): LogoutEndpoint {
  const { provider, paths, sealingKey, runtime } = parts

  async function finish(exchange: LogoutExchange, ending: Ending, redirect: string | undefined): Promise<Answer> {
    const ended = await parts.end(exchange.session.uid, ending)
    if (ended) await parts.firstAttempts(ended.logout.id, WAIT)
    await exchange.signedOut(ended?.logout.id)
    return seeOther(redirect ?? paths.signedOut)
  }

  return {
    async endpoint(exchange) {
      const { request, session } = exchange
      return guarded(async () => {
        const params = request.method === 'POST' ? await request.form(BODY_LIMIT) : request.query
        const logout = await validateLogoutRequest(provider, params)
        const { client, hint } = logout
        if (!session.accountId) {
          // Not an error (RP-Initiated §4); only a hint vouches for the redirect here, nobody was asked.
          return hint ? seeOther(redirectOf(logout) ?? paths.signedOut) : seeOther(paths.signedOut)
        }
        const current = {
          sid: client && session.sidFor(client.clientId),
          sub: client && (await parts.subFor(session.accountId, client)),
        }
        const secFetchDest = request.header('sec-fetch-dest')
        if (!mustAsk({ hint, current, secFetchDest, secPurpose: request.header('sec-purpose') })) {
          return finish(exchange, endingOf(client?.clientId), redirectOf(logout))
        }
        const sealed = await seal(pendingOf(session.uid, logout), sealingKey, runtime.now())
        return seeOther(`${paths.ask}?request=${sealed}`)
      })
    },

    async ask({ request, session }) {
      return guarded(async () => {
        const sealed = request.query.get('request') ?? ''
        const pending = await unseal(sealed, sealingKey, runtime.now())
        if (!session.accountId) return seeOther(paths.signedOut)
        if (pending?.uid !== session.uid) return seeOther(paths.endpoint) // of another login, or too old: ask anew
        const clients = await Promise.all(
          Object.keys(session.authorizations ?? {}).map((id) => provider.Client.find(id)),
        )
        const askedBy = pending.clientId === undefined ? undefined : await provider.Client.find(pending.clientId)
        return confirmPage({
          action: paths.ask,
          sealed,
          account: await parts.accountName(session.accountId),
          apps: clients.flatMap((client) => (client ? [nameOf(client)] : [])),
          askedBy: askedBy && nameOf(askedBy),
          leadsAway: pending.postLogoutRedirectUri !== undefined,
        })
      })
    },

    async answer(exchange) {
      const { request, session } = exchange
      return guarded(async () => {
        if (!isSameOrigin(request, new URL(provider.issuer).origin)) {
          return refused(403, 'The answer did not come from this page.', 'logout_answer_cross_origin')
        }
        const form = await request.form(BODY_LIMIT)
        const pending = await unseal(form.get('request') ?? '', sealingKey, runtime.now())
        if (!pending) return refused(400, 'The question is older than 15 minutes.', 'logout_answer_invalid')
        if (session.accountId && pending.uid !== session.uid) {
          return refused(400, 'Somebody signed in again in the meantime.', 'logout_answer_outdated')
        }
        if (form.get('answer') !== 'yes') return stayedPage(provider.issuer)
        return finish(exchange, endingOf(pending.clientId), redirectOf(pending))
      })
    },

    async signedOut({ lastLogout }) {
      const known = lastLogout === undefined ? undefined : await parts.store.getLogout(lastLogout)
      const apps = await Promise.all(
        (known?.deliveries ?? []).map(async (delivery) => {
          const client = await provider.Client.find(delivery.clientId)
          return { name: client ? nameOf(client) : 'An app that is gone', delivery }
        }),
      )
      return signedOutPage({ apps, now: runtime.now(), home: provider.issuer })
    },
  }

  function refused(status: number, what: string, code: string): Answer {
    return logoutErrorPage({ status, what, code, logoutEndpoint: paths.endpoint })
  }

  async function guarded(answer: () => Promise<Answer>): Promise<Answer> {
    try {
      return await answer()
    } catch (error) {
      if (error instanceof TooLarge) return refused(413, 'The request is too large.', 'logout_request_too_large')
      if (error instanceof LockstepError && error.code === 'logout_request_invalid') {
        return refused(400, `The app's request was not right: ${error.message}.`, error.code)
      }
      throw error
    }
  }
}

function pendingOf(uid: string, { client, postLogoutRedirectUri, state }: LogoutRequest): PendingLogout {
  return {
    uid,
    ...(client ? { clientId: client.clientId } : {}),
    ...(postLogoutRedirectUri === undefined ? {} : { postLogoutRedirectUri }),
    ...(state === undefined ? {} : { state }),
  }
}

function redirectOf({
  postLogoutRedirectUri: uri,
  state,
}: Pick<LogoutRequest, 'postLogoutRedirectUri' | 'state'>): string | undefined {
  return uri === undefined ? undefined : postLogoutRedirect({ uri, state })
}

function endingOf(clientId: string | undefined): Ending {
  return clientId === undefined ? { cause: 'op_logout' } : { cause: 'rp_initiated', initiator: clientId }
}

/** The client's name for people. */
export function nameOf(client: Client): string {
  return client.clientName ?? client.clientId
}

function seeOther(location: string): Answer {
  return { status: 303, headers: { location, 'cache-control': 'no-store', 'referrer-policy': 'no-referrer' }, body: '' }
}

/**
 * A state-changing POST must come from the OP's own page (T5): the OP cookie alone travels cross-site. Browsers always say
 * where a POST comes from; a client that says nothing has shown by its sealed request that it read the page.
 */
function isSameOrigin(request: HttpRequest, origin: string): boolean {
  const sentOrigin = request.header('origin')
  const site = request.header('sec-fetch-site')
  return (sentOrigin === undefined || sentOrigin === origin) && (site === undefined || site === 'same-origin')
}

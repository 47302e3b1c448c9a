import type { Client, Session } from 'oidc-provider'
import { LockstepError } from '../../protocol/errors.ts'
import { nameOf } from '../clients/client-name.ts'
import type { Ending } from '../end-session.ts'
import { type Answer, type HttpRequest, TooLarge } from '../http.ts'
import { showPage } from '../pages/show.ts'
import { isSameOrigin } from '../same-origin.ts'
import { type PendingLogout, type Refusal, seal, unseal } from '../secrets/sealed-request.ts'
import type { EndedOpSession, OpIssuerStore } from '../store/contract.ts'
import { at, languagesFor, localesOf, seeOther } from './logout-http.ts'
import { type LogoutRequest, mustAsk, postLogoutRedirect, validateLogoutRequest } from './logout-request.ts'
import { type FramesParts, showFrames, throughNotices } from './show-frames.ts'
import { showReceipt } from './show-receipt.ts'

/** Bytes of a logout request: an encrypted ID Token with many claims fits. */
const BODY_LIMIT = 65_536

/** What the Logout Endpoint is built from. */
export interface LogoutEndpointParts extends FramesParts {
  readonly store: FramesParts['store'] & Pick<OpIssuerStore, 'getOpSession'>
  /** Where "no" leads. */
  readonly declined: 'page' | 'redirect'
  /** Ends OP sessions and what their browser began together with them, all or none; answers those that were alive. */
  readonly end: (uids: readonly string[], ending: Ending) => Promise<readonly EndedOpSession[]>
  /** The `sub` by which a client knows an account (pairwise subjects differ), `undefined` when that cannot be told. */
  readonly subFor: (accountId: string, client: Client) => Promise<string | undefined>
  /** What the user is called on the question: the account's id where no name can be read. */
  readonly accountName: (accountId: string) => Promise<string>
}

/** The browser's side of a logout request. */
export interface LogoutExchange {
  readonly request: HttpRequest
  /** The OP sessions that are signed in in this browser: that of the OP cookie first. More than one were begun together. */
  readonly sessions: readonly Session[]
  /** The logouts this browser just made, from its short-lived cookie. */
  readonly lastLogout: string | undefined
  /** Clears the cookies of logins, rotates the browser state, and remembers the logouts for their signed-out page. */
  signedOut(logoutIds: readonly string[]): Promise<void>
}

/** The Logout Endpoint and its pages. */
export interface LogoutEndpoint {
  endpoint(exchange: LogoutExchange): Promise<Answer>
  ask(exchange: LogoutExchange): Promise<Answer>
  answer(exchange: LogoutExchange): Promise<Answer>
  frames(exchange: LogoutExchange): Promise<Answer>
  refused(exchange: LogoutExchange): Promise<Answer>
  signedOut(exchange: LogoutExchange): Promise<Answer>
}

/** The page that says what went wrong, and still offers to log out (RP-Initiated §4). */
export async function refuse(
  { provider, paths, pages }: Pick<LogoutEndpointParts, 'provider' | 'paths' | 'pages'>,
  request: HttpRequest,
  status: number,
  { problem, detail }: Refusal,
): Promise<Answer> {
  const data = { languages: languagesFor(request, localesOf(request)), problem, detail, home: provider.issuer }
  return showPage(pages, 'error', { ...data, logoutEndpoint: paths.endpoint }, { status })
}

/**
 * Builds the Logout Endpoint: GET and POST, confirmation by the user unless the hint is of this very OP session, no
 * redirect on any error, and the RPs told before the post-logout redirect.
 *
 * @see {@link https://openid.net/specs/openid-connect-rpinitiated-1_0.html | RP-Initiated Logout 1.0}
 */
export function logoutEndpoint(parts: LogoutEndpointParts): LogoutEndpoint {
  const { provider, findClient, paths, sealingKey, runtime, pages } = parts
  const home = provider.issuer

  async function finish(
    { sessions, signedOut }: LogoutExchange,
    locales: string | undefined,
    ending: Ending,
    { uid, isLost = false, ...asked }: Omit<PendingLogout, 'uid'> & { readonly uid: string | undefined },
  ): Promise<Answer> {
    const uids = new Set([...(uid === undefined ? [] : [uid]), ...sessions.map((session) => session.uid)])
    const ended = await parts.end([...uids], ending)
    const logoutIds = ended.map(({ logout }) => logout.id)
    await signedOut(isLost ? [] : logoutIds)
    const next = redirectOf(asked) ?? at(paths.signedOut, locales)
    const inFrames = !isLost && ended.some(({ frames }) => frames.length > 0) // frames name the other apps (T14)
    return seeOther(await throughNotices(parts, { logoutIds, inFrames, next }, locales))
  }

  async function ask(locales: string | undefined, pending: PendingLogout): Promise<Answer> {
    const sealed = await seal('question', pending, sealingKey, runtime.now())
    return seeOther(at(paths.ask, locales, sealed))
  }

  /** The OP session of a hint in a browser that has lost the OP cookie: a browser of a native app's keeps none, say. */
  async function lostSession({ client, hint }: LogoutRequest): Promise<string | undefined> {
    if (!client || hint?.sid === undefined) return undefined
    const found = await parts.store.getOpSession({ clientId: client.clientId, sid: hint.sid })
    if (found?.accountId === undefined) return undefined
    return hint.sub === (await parts.subFor(found.accountId, client)) ? found.uid : undefined
  }

  async function declined({ request, sessions }: LogoutExchange, pending: PendingLogout): Promise<Answer> {
    const redirect = redirectOf(pending)
    if (parts.declined === 'redirect' && redirect !== undefined) return seeOther(redirect)
    const { isLost = false, uid } = pending
    const isSignedIn = isLost ? (await parts.store.getOpSession({ uid })) !== undefined : sessions.length > 0
    if (!isSignedIn) return seeOther(at(paths.signedOut, localesOf(request))) // another tab said yes
    return stayed(request, pending)
  }

  async function stayed(request: HttpRequest, pending: Pick<PendingLogout, 'clientId'>): Promise<Answer> {
    const client = pending.clientId === undefined ? undefined : await findClient(pending.clientId)
    const next = client?.clientUri ?? home
    const app = client?.clientUri === undefined ? undefined : nameOf(client)
    return showPage(pages, 'stayed', { languages: languagesFor(request, localesOf(request)), next, app })
  }

  return {
    async endpoint(exchange) {
      const { request, sessions } = exchange
      return guarded(request, async () => {
        const params = request.method === 'POST' ? await request.form(BODY_LIMIT) : request.query
        const logout = await validateLogoutRequest(provider, params)
        const { client, hint } = logout
        const locales = params.get('ui_locales') ?? undefined
        const isOfHint = (each: Session): boolean =>
          client !== undefined && hint?.sid !== undefined && each.sidFor(client.clientId) === hint.sid
        const session = sessions.find(isOfHint) ?? sessions[0]
        if (!session?.accountId) {
          const uid = await lostSession(logout)
          if (uid !== undefined) return ask(locales, { ...pendingOf(uid, logout), isLost: true })
          // Not an error (RP-Initiated §4); only a hint vouches for the redirect here, nobody was asked.
          return seeOther((hint && redirectOf(logout)) ?? at(paths.signedOut, locales))
        }
        const current = {
          sid: client && session.sidFor(client.clientId),
          sub: client && (await parts.subFor(session.accountId, client)),
        }
        const { method } = request
        const [secFetchDest, secPurpose] = [request.header('sec-fetch-dest'), request.header('sec-purpose')]
        if (mustAsk({ hint, current, method, secFetchDest, secPurpose })) {
          return ask(locales, pendingOf(session.uid, logout))
        }
        return finish(exchange, locales, endingOf(client?.clientId), pendingOf(session.uid, logout))
      })
    },

    async ask({ request, sessions }) {
      const sealed = request.query.get('request') ?? ''
      const locales = localesOf(request)
      const pending = await unseal('question', sealed, sealingKey, runtime.now())
      const session = sessions.find(({ uid }) => uid === pending?.uid)
      const isOurs = session !== undefined || (sessions.length === 0 && pending?.isLost === true)
      if (!pending || !isOurs) {
        // of another login, or too old: ask anew whom there is to ask
        return seeOther(at(sessions.length > 0 ? paths.endpoint : paths.signedOut, locales))
      }
      const clientIds = new Set(sessions.flatMap(({ authorizations = {} }) => Object.keys(authorizations)))
      const clients = await Promise.all([...clientIds].map((id) => findClient(id)))
      const askedBy = pending.clientId === undefined ? undefined : await findClient(pending.clientId)
      const data = {
        languages: languagesFor(request, locales),
        action: at(paths.ask, locales),
        request: sealed,
        account: session?.accountId && (await parts.accountName(session.accountId)),
        apps: clients.flatMap((client) => (client ? [nameOf(client)] : [])).sort((a, b) => a.localeCompare(b)),
        askedBy: askedBy && nameOf(askedBy),
      }
      return showPage(pages, 'confirm', data, { leadsAway: pending.postLogoutRedirectUri !== undefined })
    },

    async answer(exchange) {
      const { request, sessions } = exchange
      return guarded(request, async () => {
        const from = { origin: request.header('origin'), 'sec-fetch-site': request.header('sec-fetch-site') }
        if (!isSameOrigin(from, provider.issuer)) {
          return refuse(parts, request, 403, { problem: 'logout_answer_cross_origin' })
        }
        const form = await request.form(BODY_LIMIT)
        const pending = await unseal('question', form.get('request') ?? '', sealingKey, runtime.now())
        if (!pending) return refuse(parts, request, 400, { problem: 'logout_answer_invalid' })
        const isOurs = sessions.some(({ uid }) => uid === pending.uid)
        if (sessions.length > 0 && !isOurs) {
          return refuse(parts, request, 400, { problem: 'logout_answer_outdated' })
        }
        if (form.get('answer') !== 'yes') return declined(exchange, pending)
        // Without the OP cookie only a question ends something that was asked without it.
        const uid = isOurs || pending.isLost ? pending.uid : undefined
        return finish(exchange, localesOf(request), endingOf(pending.clientId), { ...pending, uid })
      })
    },

    frames: ({ request }) => showFrames(parts, request),

    async refused({ request }) {
      const refusal = await unseal('refusal', request.query.get('request') ?? '', sealingKey, runtime.now())
      return refusal ? refuse(parts, request, 400, refusal) : seeOther(paths.endpoint)
    },

    async signedOut({ request, sessions, lastLogout }) {
      const isPage = !request.header('accept')?.includes('application/json')
      if (sessions.length > 0 && isPage) return stayed(request, {})
      return showReceipt({ ...parts, home }, request, lastLogout)
    },
  }

  /** Turns what is wrong with a request into a page; no redirect to any RP (RP-Initiated §4). */
  async function guarded(request: HttpRequest, answer: () => Promise<Answer>): Promise<Answer> {
    try {
      return await answer()
    } catch (error) {
      if (error instanceof TooLarge) return refuse(parts, request, 413, { problem: 'logout_request_too_large' })
      if (!(error instanceof LockstepError && error.code === 'logout_request_invalid')) throw error
      const refusal = { problem: error.code, detail: error.message } satisfies Refusal
      // A browser is sent on, so that no hint stays in its address bar (T12); the status is the same in the end.
      const isInAddressBar = request.method === 'GET' && request.header('sec-fetch-dest') === 'document'
      if (!isInAddressBar) return refuse(parts, request, 400, refusal)
      const sealed = await seal('refusal', refusal, sealingKey, runtime.now())
      return seeOther(at(paths.refused, localesOf(request), sealed))
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

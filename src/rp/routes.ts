import { LockstepError } from '../protocol/errors.ts'
import { html } from '../runtime/html.ts'
import type { RpContext } from './context.ts'
import { endRpSessions } from './end-sessions.ts'
import { finishLogin } from './finish-login.ts'
import { BodyReadBefore, BodyTooLarge, isPrefetch, page, type RpAnswer, type RpRequest, refusal } from './http.ts'
import { initiateLogin } from './initiate-login.ts'
import { messageOf } from './log.ts'
import { arriveLoggedOut, askBeforeLogout, logOut } from './log-out.ts'
import type { ResolvedAppOptions } from './options.ts'
import { arrivalFailedPage, loginFailedPage, logoutFailedPage } from './pages.ts'
import { receiveLogoutToken } from './receive-backchannel.ts'
import { receiveFrontchannelLogout } from './receive-frontchannel.ts'
import { showSession } from './session-document.ts'
import { streamSession } from './session-events.ts'
import { serveSessionMonitor } from './session-monitor-file.ts'
import { isBelow, isOfAnother, type Place } from './side-by-side.ts'
import { startSilentCheck } from './silent-check.ts'
import { startLogin, startRegistration } from './start-login.ts'

type Route = <Data>(context: RpContext<Data>, request: RpRequest) => Promise<RpAnswer>

const routes = new Map<string, ReadonlyMap<string, Route>>([
  ['login', new Map<string, Route>([['GET', startLogin]])],
  ['register', new Map<string, Route>([['GET', startRegistration]])],
  [
    'initiate-login',
    new Map<string, Route>([
      ['GET', initiateLogin],
      ['POST', initiateLogin],
    ]),
  ],
  ['callback', new Map<string, Route>([['GET', finishLogin]])],
  [
    'logout',
    new Map<string, Route>([
      ['GET', askBeforeLogout],
      ['POST', logOut],
    ]),
  ],
  ['logged-out', new Map<string, Route>([['GET', arriveLoggedOut]])],
  ['backchannel-logout', new Map<string, Route>([['POST', endByLogoutToken]])],
  ['frontchannel-logout', new Map<string, Route>([['GET', receiveFrontchannelLogout]])],
  ['session', new Map<string, Route>([['GET', showSession]])],
  ['session/events', new Map<string, Route>([['GET', streamSession]])],
  ['session-monitor.js', new Map<string, Route>([['GET', (_context, request) => serveSessionMonitor(request)]])],
  ['silent-check', new Map<string, Route>([['GET', startSilentCheck]])],
])

function endByLogoutToken<Data>(context: RpContext<Data>, request: RpRequest): Promise<RpAnswer> {
  const { options, op } = context
  return receiveLogoutToken(
    {
      options,
      op,
      remembered: options.lifetime.absolute,
      countsSessions: true,
      end: (target, notice) => endRpSessions(context, target, notice),
    },
    request,
  )
}

/** Answers whatever lies under the prefix; `undefined` for every other path, which is the app's. */
export function respond<Data>(context: RpContext<Data>, request: RpRequest): Promise<RpAnswer | undefined> {
  return serve<RpContext<Data>>(routes, context, request, (name, error) => failed(context, name, error))
}

/** Routes under a prefix, by name and method. */
export type RouteTable<Context> = ReadonlyMap<
  string,
  ReadonlyMap<string, (context: Context, request: RpRequest) => Promise<RpAnswer>>
>

/** Finds a request's route and runs it; `undefined` for what is not under the prefix. */
export async function serve<Context extends { readonly options: Place }>(
  routes: RouteTable<Context>,
  context: Context,
  request: RpRequest,
  failed: (route: string, error: unknown) => RpAnswer,
): Promise<RpAnswer | undefined> {
  const name = routeOf(context.options, request)
  if (name === undefined) return undefined
  const methods = routes.get(name)
  if (methods === undefined) return refusal(404, 'not_found', 'there is nothing here')
  // The callback redeems its code, which it can only once; and HEAD ends no RP session.
  const isHead = request.method === 'HEAD' && name !== 'callback' && name !== 'frontchannel-logout'
  const route = methods.get(isHead ? 'GET' : request.method)
  if (route === undefined) {
    const allow = [...methods.keys()].join(', ')
    return refusal(405, 'method_not_allowed', `only ${allow}`, { allow })
  }
  if (isPrefetch(request) && name !== 'session-monitor.js') {
    return refusal(403, 'invalid_request', 'nothing here is to be fetched before somebody asks for it')
  }
  try {
    const answer = await route(context, request)
    return isHead ? { ...answer, body: '' } : answer
  } catch (error) {
    return failed(name, error)
  }
}

/** The name of the route a request is for, `undefined` when it is not under the prefix, or under another's below that. */
export function routeOf(place: Place, { url }: Pick<RpRequest, 'url'>): string | undefined {
  const path = url.split(/[?#]/, 1)[0] as string
  if (!isBelow(path, place.base) || isOfAnother(place, path)) return undefined
  return path.slice(place.base.length + 1)
}

/** What went wrong, in a form that tells the outside nothing it should not know. */
function failed<Data>({ options }: RpContext<Data>, route: string, error: unknown): RpAnswer {
  const failedPage = failedPages.get(route)
  if (error instanceof LockstepError && error.code === 'op_unreachable') {
    return loginFailedPage(options, { status: 503, what: `${error.message}.`, code: error.code })
  }
  if (failedPage === undefined || error instanceof BodyTooLarge || error instanceof BodyReadBefore) {
    return refusalFor(options, route, error)
  }
  options.log({ event: 'internal_error', route, message: messageOf(error) })
  return isStoreAway(error)
    ? failedPage(options, { status: 503, what: storeAway, code: 'store_failed' })
    : failedPage(options, { status: 500, what: wentWrong, code: 'internal_error' })
}

/** What is shown at routes that are pages. */
const failedPages = new Map([
  ['login', loginFailedPage],
  ['register', loginFailedPage],
  ['initiate-login', loginFailedPage],
  ['callback', loginFailedPage],
  ['logout', logoutFailedPage],
  ['logged-out', arrivalFailedPage],
])

const wentWrong = 'Something went wrong here; it was logged.'
const storeAway = 'This app cannot reach its sessions at the moment. Try again in a few seconds.'

function isStoreAway(error: unknown): boolean {
  return error instanceof LockstepError && error.code === 'store_failed'
}

/** The same for a route that is no page. */
export function refusalFor({ log }: Pick<ResolvedAppOptions, 'log'>, route: string, error: unknown): RpAnswer {
  if (error instanceof BodyTooLarge) return refusal(413, 'invalid_request', error.message, { connection: 'close' })
  if (error instanceof LockstepError && error.code === 'frontchannel_request_invalid') {
    log({ event: 'frontchannel_logout_refused', message: error.message })
    return refusal(400, 'invalid_request', error.message)
  }
  log({ event: 'internal_error', route, message: messageOf(error) })
  if (error instanceof LockstepError && error.code === 'session_unreadable') {
    const what = 'This app could not read its own session; why is in its log.'
    if (route === 'frontchannel-logout') return refusedFrame(what, error.code)
    return refusal(500, error.code, what)
  }
  if (isStoreAway(error)) return refusal(503, 'temporarily_unavailable', storeAway, { 'retry-after': '5' })
  return refusal(500, 'server_error', error instanceof BodyReadBefore ? error.message : wentWrong)
}

/** In the OP's logout page, where somebody may see it. */
function refusedFrame(what: string, code: string): RpAnswer {
  return page(
    500,
    html`<title>Not signed out</title><p>${what}</p><p><small>Code: ${code}</small></p>`,
    "default-src 'none'",
  )
}

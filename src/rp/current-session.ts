import type { SessionEnd } from '../protocol/session-document.ts'
import { type RpContext, seconds } from './context.ts'
import { setAside } from './cookies.ts'
import { findRpSession } from './find-session.ts'
import { isDocument, type RpRequest } from './http.ts'
import { leavingOf, readLeaving, rememberLeaving } from './left-app.ts'
import { type CurrentRpSession, showRpSession } from './rp-session.ts'
import { isOfOurs } from './side-by-side.ts'
import type { StoredRpSession } from './store/contract.ts'
import { whoIsUnknown } from './store-failure.ts'

/** The RP session of an app's request, and the cookies its answer must set. */
export interface CurrentRequest<Data> {
  readonly current: CurrentRpSession<Data>
  readonly cookies: readonly string[]
}

/** The idle lifetime is pushed on in steps of a twentieth, so that few requests write. */
const STEPS = 20

/** What has to be known of an app's request; without `url` it counts as the app's own. */
export type AppRequest = Pick<RpRequest, 'header'> & Partial<Pick<RpRequest, 'url'>>

/**
 * Finds who is signed in at the browser that made an app's request, and counts the request as use unless it is for another
 * relying party of the app.
 *
 * A dead cookie is set aside only with a whole page: until then the open tabs can still hear how their RP session ended.
 * By the time this answer arrives the browser may have the cookie of a new login, so it is not cleared; that of an RP
 * session nobody knows is left alone altogether.
 *
 * @throws LockstepError `store_failed`, see {@link whoIsUnknown}
 */
export async function currentSession<Data>(
  context: RpContext<Data>,
  request: AppRequest,
): Promise<CurrentRequest<Data>> {
  try {
    return await find(context, request)
  } catch (cause) {
    throw whoIsUnknown(context, 'current', cause)
  }
}

async function find<Data>(context: RpContext<Data>, request: AppRequest): Promise<CurrentRequest<Data>> {
  const known = await findRpSession(context, request)
  if (known === undefined) return { current: { state: 'none' }, cookies: [] }
  const { handle } = known
  let { found } = known
  if (found?.state === 'alive' && !isOfOurs(context.options, request) && !(await use(context, found.session))) {
    found = await context.store.get(handle)
  }
  if (found?.state === 'alive') {
    return { current: { state: 'alive', session: showRpSession<Data>(found.session) }, cookies: [] }
  }
  if (!found) return { current: { state: 'none' }, cookies: [] }
  return {
    current: { state: 'ended', end: found.end },
    cookies: isDocument(request) ? await cookiesAfterEnd(context, request, found) : [],
  }
}

/** Sets the dead cookie aside; that the End-User left this app himself outlives it. */
async function cookiesAfterEnd<Data>(
  { options, store }: RpContext<Data>,
  request: Pick<RpRequest, 'header'>,
  { end, publicId }: { readonly end: SessionEnd; readonly publicId: string },
): Promise<readonly string[]> {
  const aside = setAside(publicId, options)
  const leaving = leavingOf(end)
  if (leaving === undefined || readLeaving(request, options) !== undefined) return [aside]
  // Whom the app has signed out may hear of it late, and is asked once more all the same.
  const age = end.cause === 'admin' ? 0 : Math.floor(((await store.now()) - leaving.at) / 1000)
  return [aside, rememberLeaving(leaving, options, age)]
}

/** Extends the idle lifetime; `false` when a logout was faster. */
async function use<Data>(context: RpContext<Data>, session: StoredRpSession): Promise<boolean> {
  const { idle } = context.options.lifetime
  const idleExpiresAt = seconds(context) + idle
  if (idleExpiresAt - session.idleExpiresAt < Math.max(1, idle / STEPS)) return true
  return context.store.updateIfExists(session.handle, { idleExpiresAt })
}

import type { RpContext } from './context.ts'
import { readSessionCookie } from './cookies.ts'
import { endRpSession } from './end-sessions.ts'
import type { RpRequest } from './http.ts'
import { endOf, type Leaving, leavingOf, leftSince, readLeaving } from './left-app.ts'
import { handleOf } from './session-id.ts'
import type { FoundRpSession } from './store/contract.ts'

/** What the store knows of the RP session whose cookie a request brings. */
export interface RpSessionOfRequest {
  readonly handle: string
  readonly found: FoundRpSession | undefined
}

/**
 * Finds the RP session of the browser that asks; `undefined` when it brings no cookie of one.
 *
 * If the End-User has left this app in this browser while its login was under way, and the logout was answered first, then
 * it is ended here: the browser has both cookies, that of the login and that of having left.
 */
export async function findRpSession<Data>(
  context: RpContext<Data>,
  request: Pick<RpRequest, 'header'>,
): Promise<RpSessionOfRequest | undefined> {
  const id = readSessionCookie(request, context.options)
  if (id === undefined) return undefined
  const handle = handleOf(id)
  const found = await context.store.get(handle)
  const left = found?.state === 'alive' ? leftSince(request, found.session, context.options) : undefined
  if (left === undefined) return { handle, found }
  await endRpSession(context, handle, endOf(left))
  return { handle, found: await context.store.get(handle) }
}

/**
 * Finds out whether the End-User has signed out of this app in this browser. The browser's own cookie of it may be missing: the
 * app ended the RP session, or another tab is still waiting for its answer. Then the store knows.
 */
export async function findLeaving<Data>(
  context: RpContext<Data>,
  request: Pick<RpRequest, 'header'>,
): Promise<Leaving | undefined> {
  const found = (await findRpSession(context, request))?.found
  return (found?.state === 'ended' ? leavingOf(found.end) : undefined) ?? readLeaving(request, context.options)
}

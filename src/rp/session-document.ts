import type { SessionDocument } from '../protocol/session-document.ts'
import type { RpContext } from './context.ts'
import { findRpSession } from './find-session.ts'
import { isForeign, json, type RpAnswer, type RpRequest, refusal } from './http.ts'
import { readOpWatch } from './op-watch.ts'
import { expiryOf } from './rp-session.ts'
import type { FoundRpSession } from './store/contract.ts'

/**
 * Says how the RP session of the asking browser is: 200 when alive, 401 when ended or when there is none. It never
 * extends the idle lifetime (T11), and other sites get 403 (T17).
 */
export async function showSession<Data>(context: RpContext<Data>, request: RpRequest): Promise<RpAnswer> {
  if (isForeign(request)) return refusal(403, 'invalid_request', 'only this app may ask')
  const known = await findRpSession(context, request)
  const document: SessionDocument = known === undefined ? { state: 'none' } : describe(context, known.found)
  return json(document.state === 'alive' ? 200 : 401, document)
}

/** Reads the store and says what a tab may know. */
export async function readDocument<Data>(context: RpContext<Data>, handle: string): Promise<SessionDocument> {
  return describe(context, await context.store.get(handle))
}

function describe<Data>(context: RpContext<Data>, found: FoundRpSession | undefined): SessionDocument {
  if (found === undefined) return { state: 'none' }
  if (found.state === 'ended') return { state: 'ended', session: found.publicId, ended: found.end }
  const { session } = found
  const iframe = checkSessionIframe(context)
  const { sessionState, silentCheck } = readOpWatch(session.sessionState)
  return {
    state: 'alive',
    session: session.publicId,
    sub: session.sub,
    client_id: context.options.clientId,
    expires_at: expiryOf(session),
    ...(sessionState === undefined ? {} : { session_state: sessionState, silent_check: silentCheck }),
    ...(iframe === undefined ? {} : { check_session_iframe: iframe }),
  }
}

/** Nobody waits for the OP here: after a restart of the app the iframe is named as soon as the OP has been found. */
function checkSessionIframe<Data>({ op }: RpContext<Data>): string | undefined {
  const url = op.known()?.serverMetadata().check_session_iframe
  return typeof url === 'string' ? url : undefined
}

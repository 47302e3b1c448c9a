import { LockstepError } from '../protocol/errors.ts'
import { raw } from '../runtime/html.ts'
import type { OpConnection } from './connect-op.ts'
import { type RpContext, seconds } from './context.ts'
import { afterFrontchannel } from './end-sessions.ts'
import { page, type RpAnswer, type RpRequest } from './http.ts'
import type { ResolvedAppOptions } from './options.ts'

/** Longest `sid` that is looked for. */
const MAX_SID = 1024

/**
 * Ends the RP sessions of one `sid` when the OP's logout page frames this URL.
 *
 * It works without cookies, since browsers send none here, by the `iss` and `sid` in the query: register with
 * `frontchannel_logout_session_required`. Anybody could ask, so it does no more than this: no watermark, no token is
 * revoked, and the answer is the same whether there was such an RP session or not (T4).
 *
 * @see {@link https://openid.net/specs/openid-connect-frontchannel-1_0.html#RPLogout | Front-Channel Logout 1.0 §2}
 */
export async function receiveFrontchannelLogout<Data>(context: RpContext<Data>, request: RpRequest): Promise<RpAnswer> {
  const sid = framedSid(context, request)
  const at = seconds(context)
  const ended = await context.store.deleteBySid(sid, { cause: 'frontchannel', at })
  afterFrontchannel(context, ended, { cause: 'frontchannel', at })
  context.options.log({ event: 'frontchannel_logout_received', ended: ended.length })
  return signedOutFrame(context)
}

interface FramedRp {
  readonly options: ResolvedAppOptions
  readonly op: Pick<OpConnection, 'known'>
}

/** What the frame shows, whatever was done. */
export function signedOutFrame(rp: FramedRp, cookies: readonly string[] = []): RpAnswer {
  return page(200, raw('<title>Signed out</title>'), `default-src 'none'; frame-ancestors ${framers(rp)}`, cookies)
}

/** @throws LockstepError `frontchannel_request_invalid` for what no OP sends; the RP session then stays. */
export function framedSid({ options }: Pick<FramedRp, 'options'>, request: RpRequest): string {
  const dest = request.header('sec-fetch-dest')
  if (dest !== undefined && dest !== 'iframe') throw refused('only an iframe of the OP may ask')
  const query = new URL(request.url, options.origin).searchParams
  const issuers = query.getAll('iss')
  const sids = query.getAll('sid')
  const [sid] = sids
  if (issuers.length !== 1 || sids.length !== 1 || sid === undefined || sid === '' || sid.length > MAX_SID) {
    throw refused('iss and sid must both be sent, once: set frontchannel_logout_session_required at the OP')
  }
  if (issuers[0] !== options.issuer) throw refused('iss is not the issuer of this app')
  return sid
}

function refused(message: string): LockstepError {
  return new LockstepError('frontchannel_request_invalid', message)
}

/** Where the OP's logout page may live: at its issuer, or where its Logout Endpoint is. */
function framers({ options, op }: FramedRp): string {
  const endpoint = op.known()?.serverMetadata().end_session_endpoint
  const origins = [options.issuer, ...(endpoint === undefined ? [] : [endpoint])].map((url) => new URL(url).origin)
  return [...new Set(origins)].join(' ')
}

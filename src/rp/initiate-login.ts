import type { RpContext } from './context.ts'
import { BODY_LIMIT, type RpAnswer, type RpRequest } from './http.ts'
import { loginFailedPage } from './pages.ts'
import { safeReturnTo } from './return-to.ts'
import { goToOp, refuseUnlessNavigation } from './start-login.ts'

/**
 * Begins a login that another party wants (Core §4): the OP's own app launcher, say.
 *
 * `iss` must be ours, so that nobody sends our users to an OP of his choice. A `target_link_uri` outside this app is
 * ignored, so that nobody makes us an open redirector.
 */
export async function initiateLogin<Data>(context: RpContext<Data>, request: RpRequest): Promise<RpAnswer> {
  const refused = refuseUnlessNavigation(request)
  if (refused) return refused
  const { options } = context
  const sent =
    request.method === 'POST'
      ? new URLSearchParams(await request.text(BODY_LIMIT))
      : new URL(request.url, options.origin).searchParams
  if (sent.getAll('iss').length !== 1 || sent.get('iss') !== options.issuer) {
    const what = 'This app does not know the sign-in service it was sent to.'
    return loginFailedPage(options, { status: 400, what, code: 'issuer_unknown' })
  }
  const hint = sent.get('login_hint')
  const returnTo = safeReturnTo(pathWithin(options.origin, sent.get('target_link_uri')), options)
  return goToOp(context, request, { returnTo, asked: hint === null ? {} : { login_hint: hint.slice(0, 320) } })
}

function pathWithin(origin: string, target: string | null): string | undefined {
  if (target === null || !URL.canParse(target)) return undefined
  const url = new URL(target)
  return url.origin === origin ? url.pathname + url.search + url.hash : undefined
}

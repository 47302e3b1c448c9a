import type { RpContext } from './context.ts'
import { type RpAnswer, type RpRequest, redirect, refusal } from './http.ts'
import { readLeaving } from './left-app.ts'
import { authorizationUrl, beginTransaction } from './login-transaction.ts'
import { safeReturnTo } from './return-to.ts'

const prompts = ['login', 'consent', 'select_account', 'create']

/**
 * Sends the browser to the OP to sign in.
 *
 * Takes `return_to` (a path in this app), `prompt` and `login_hint`. Only a navigation of a whole page begins a login:
 * an image would only fill the cookie jar (T29). With `by=app` it was the app that sent the browser here:
 * who has just signed out of this app then sees that he is signed out, and is asked first whether he wants back in.
 */
export async function startLogin<Data>(context: RpContext<Data>, request: RpRequest): Promise<RpAnswer> {
  const dest = request.header('sec-fetch-dest')
  if (dest !== undefined && dest !== 'document') {
    return refusal(403, 'invalid_request', 'a login begins with a page navigation')
  }
  const query = new URL(request.url, context.options.origin).searchParams
  const prompt = query.get('prompt')
  if (prompt !== null && !prompts.includes(prompt)) {
    return refusal(400, 'invalid_request', `prompt must be one of ${prompts.join(', ')}`)
  }
  const wanted = query.get('return_to')
  if (query.get('by') === 'app' && readLeaving(request, context.options) !== undefined) {
    const { origin, base } = context.options
    return redirect(
      `${origin}${base}/logged-out${wanted === null ? '' : `?${new URLSearchParams({ return_to: wanted })}`}`,
    )
  }
  const hint = query.get('login_hint')
  const returnTo = safeReturnTo(wanted ?? undefined, context.options)
  return goToOp(
    context,
    request,
    { returnTo },
    {
      ...(prompt === null ? {} : { prompt }),
      ...(hint === null ? {} : { login_hint: hint.slice(0, 320) }),
    },
  )
}

/** Redirects to the Authorization Endpoint with a new transaction. */
export async function goToOp<Data>(
  context: RpContext<Data>,
  request: RpRequest,
  about: { readonly returnTo: string; readonly again?: boolean },
  params: Readonly<Record<string, string>> = {},
  cookies: readonly string[] = [],
): Promise<RpAnswer> {
  const begun = await beginTransaction(context, request, { kind: 'login', again: false, ...about })
  const asking = { ...askOnceMore(context, request), ...params }
  return redirect(await authorizationUrl(context, begun.transaction, asking), [...cookies, ...begun.cookies])
}

/** Who has left this app but not the OP gives his password or the like once more: nobody is signed in by surprise. */
function askOnceMore<Data>({ options }: RpContext<Data>, request: RpRequest): { readonly prompt?: string } {
  if (readLeaving(request, options)?.how !== 'here') return {}
  const others = options.authorizationParams.prompt?.split(' ').filter((one) => one !== 'none') ?? []
  return { prompt: [...new Set(['login', ...others])].join(' ') }
}

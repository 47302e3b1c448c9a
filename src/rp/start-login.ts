import type { RpContext } from './context.ts'
import { type RpAnswer, type RpRequest, redirect, refusal } from './http.ts'
import { authorizationUrl, beginTransaction } from './login-transaction.ts'
import { safeReturnTo } from './return-to.ts'

const prompts = ['login', 'consent', 'select_account', 'create']

/**
 * Sends the browser to the OP to sign in.
 *
 * Takes `return_to` (a path in this app), `prompt` and `login_hint`. Only a navigation of a whole page begins a login:
 * an image or a prefetch would only fill the cookie jar (T29).
 */
export async function startLogin<Data>(context: RpContext<Data>, request: RpRequest): Promise<RpAnswer> {
  const dest = request.header('sec-fetch-dest')
  if ((dest !== undefined && dest !== 'document') || request.header('sec-purpose')?.includes('prefetch')) {
    return refusal(403, 'invalid_request', 'a login begins with a page navigation')
  }
  const query = new URL(request.url, context.options.origin).searchParams
  const prompt = query.get('prompt')
  if (prompt !== null && !prompts.includes(prompt)) {
    return refusal(400, 'invalid_request', `prompt must be one of ${prompts.join(', ')}`)
  }
  const hint = query.get('login_hint')
  return goToOp(context, request, safeReturnTo(query.get('return_to') ?? undefined, context.options), false, {
    ...(prompt === null ? {} : { prompt }),
    ...(hint === null ? {} : { login_hint: hint.slice(0, 320) }),
  })
}

/** Redirects to the Authorization Endpoint with a new transaction. */
export async function goToOp<Data>(
  context: RpContext<Data>,
  request: RpRequest,
  returnTo: string,
  again: boolean,
  params: Readonly<Record<string, string>> = {},
  cookies: readonly string[] = [],
): Promise<RpAnswer> {
  const begun = await beginTransaction(context, request, { kind: 'login', returnTo, again })
  return redirect(await authorizationUrl(context, begun.transaction, params), [...cookies, ...begun.cookies])
}

import type { RpContext } from './context.ts'
import { findLeaving } from './find-session.ts'
import { type RpAnswer, type RpRequest, redirect, refusal } from './http.ts'
import type { Leaving } from './left-app.ts'
import { authorizationUrl, beginTransaction } from './login-transaction.ts'
import { loginFailedPage } from './pages.ts'
import { safeReturnTo } from './return-to.ts'

const prompts = ['login', 'consent', 'select_account']

/**
 * Sends the browser to the OP to sign in.
 *
 * Takes `return_to` (a path in this app), `prompt` (also several), `login_hint` and `max_age` (seconds since the End-User last gave a
 * password or the like). Only a navigation of a whole page begins a login: an image would only fill the cookie jar (T29).
 * With `by=app` it was the app that sent the browser here: who has just signed out of this app then sees that he is
 * signed out, and is asked first whether he wants back in.
 */
export function startLogin<Data>(context: RpContext<Data>, request: RpRequest): Promise<RpAnswer> {
  return start(context, request, new URL(request.url, context.options.origin).searchParams)
}

/** Sends the browser to the OP to make an account first (Prompt Create §4), if the OP says that it can. */
export function startRegistration<Data>(context: RpContext<Data>, request: RpRequest): Promise<RpAnswer> {
  const query = new URL(request.url, context.options.origin).searchParams
  query.set('prompt', 'create')
  return start(context, request, query)
}

async function start<Data>(context: RpContext<Data>, request: RpRequest, query: URLSearchParams): Promise<RpAnswer> {
  const refused = refuseUnlessNavigation(request)
  if (refused) return refused
  const prompt = query.get('prompt')
  if (prompt !== null && !isPrompt(prompt)) {
    return refusal(400, 'invalid_request', `prompt must be create alone, or some of ${prompts.join(', ')}`)
  }
  const maxAge = query.get('max_age')
  if (maxAge !== null && !/^\d{1,9}$/.test(maxAge)) {
    return refusal(400, 'invalid_request', 'max_age must be a number of seconds')
  }
  const wanted = query.get('return_to')
  if (query.get('by') === 'app' && (await findLeaving(context, request)) !== undefined) {
    const { origin, base } = context.options
    return redirect(
      `${origin}${base}/logged-out${wanted === null ? '' : `?${new URLSearchParams({ return_to: wanted })}`}`,
    )
  }
  if (prompt === 'create' && !(await canRegister(context))) {
    const what = 'The sign-in service of this app does not offer to create accounts.'
    return loginFailedPage(context.options, { status: 404, what, code: 'registration_unsupported' })
  }
  const hint = query.get('login_hint')
  const returnTo = safeReturnTo(wanted ?? undefined, context.options)
  const asked = { ...(prompt === null ? {} : { prompt }), ...(hint === null ? {} : { login_hint: hint.slice(0, 320) }) }
  return goToOp(context, request, { returnTo, asked, ...(maxAge === null ? {} : { maxAge: Number(maxAge) }) })
}

/** A silent check has a route of its own, and `create` goes with no other (Prompt Create §4). */
function isPrompt(prompt: string): boolean {
  const several = prompt.split(' ')
  return (
    prompt === 'create' || (several.every((one) => prompts.includes(one)) && new Set(several).size === several.length)
  )
}

/** Prompt Create §4.2: an OP that does not list `create` is assumed not to know it. */
async function canRegister<Data>({ op }: RpContext<Data>): Promise<boolean> {
  const listed: unknown = (await op.configuration()).serverMetadata().prompt_values_supported
  return Array.isArray(listed) && listed.includes('create')
}

export function refuseUnlessNavigation(request: RpRequest): RpAnswer | undefined {
  const dest = request.header('sec-fetch-dest')
  if (dest === undefined || dest === 'document') return undefined
  return refusal(403, 'invalid_request', 'a login begins with a page navigation')
}

/** Redirects to the Authorization Endpoint with a new transaction. */
export async function goToOp<Data>(
  context: RpContext<Data>,
  request: RpRequest,
  login: {
    readonly returnTo: string
    readonly again?: boolean
    readonly maxAge?: number
    /** Parameters that this login has beside `authorizationParams`. */
    readonly asked?: Readonly<Record<string, string>>
    /** To be set with the redirect. */
    readonly cookies?: readonly string[]
  },
): Promise<RpAnswer> {
  const { asked = {}, cookies = [], ...about } = login
  const leaving = await findLeaving(context, request)
  const begun = await beginTransaction(context, request, { kind: 'login', again: false, asked, ...about })
  const asking = { ...asked, ...askOnceMore(context, leaving, asked.prompt) }
  return redirect(await authorizationUrl(context, begun.transaction, asking), [...cookies, ...begun.cookies])
}

/**
 * Who has left this app but not the OP gives his password or the like once more: nobody is signed in by surprise, whatever
 * else a link asks for. Who makes an account does no less.
 */
function askOnceMore<Data>(
  { options }: RpContext<Data>,
  leaving: Leaving | undefined,
  prompt: string | undefined = options.authorizationParams.prompt,
): { readonly prompt?: string } {
  if (leaving?.how !== 'here' || prompt === 'create') return {}
  const others = prompt?.split(' ').filter((one) => one !== 'none') ?? []
  return { prompt: [...new Set(['login', ...others])].join(' ') }
}

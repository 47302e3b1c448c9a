import type { Context } from 'koa'
import type { KoaContextWithOIDC } from 'oidc-provider'
import type { OpIssuerStore, OpSession } from './store/contract.ts'
import { isBackgroundCheck } from './unseen.ts'

/*
 * A login, a consent or a step-up gives the OP session a new cookie, while other tabs have requests under way that carry the
 * old one. Such a request must neither give the browser its old cookie back, nor an anonymous one in place of the new one,
 * nor tell an RP that nobody is signed in: the OP session would live on with no browser that can end it.
 */

/**
 * Which OP session an OP cookie means. `live`: it is the cookie of that one. `rotated`: it was, until another took its place
 * a moment ago. That proves whose browser it is, so it may log out and finish what it began; it opens nothing else.
 */
export type MeantOpSession =
  | { readonly state: 'live' | 'rotated'; readonly session: OpSession }
  | { readonly state: 'none' }

/** Seconds after which a cookie that was replaced means nothing any more: its browser has the new one, or lost it. */
const ROTATION = 60

/** Looks up which OP session is meant by the cookie with this handle. */
export async function meantBy(
  handle: string,
  store: Pick<OpIssuerStore, 'getOpSession' | 'getRotated'>,
): Promise<MeantOpSession> {
  const live = await store.getOpSession({ handle })
  if (live) return { state: 'live', session: live }
  const rotated = await store.getRotated(handle, ROTATION)
  return rotated ? { state: 'rotated', session: rotated } : { state: 'none' }
}

/** Requests whose OP cookie was replaced before they were answered. */
const rotated: WeakSet<object> = new WeakSet()

/** Notes that the OP cookie of this request was replaced by that of another. */
export function noteRotated(ctx: object | undefined): void {
  if (ctx) rotated.add(ctx)
}

/** True where nobody seems to be signed in only because the cookie is the old one: who the browser belongs to is not known. */
export function isRotatedAnonymous(ctx: KoaContextWithOIDC): boolean {
  return rotated.has(ctx) && ctx.oidc.session?.accountId === undefined
}

/** Takes the OP cookie out of an answer that has no right to set it; who has just signed in gets it in any case. */
export function withholdCookie(ctx: KoaContextWithOIDC, name: string): void {
  const signsIn = ctx.oidc.result?.login !== undefined
  if (!isBackgroundCheck(ctx) && (!rotated.has(ctx) || signsIn)) return
  const lines = cookieLines(ctx)
  const isSet = (line: string): boolean => line.startsWith(`${name}=`) || line.startsWith(`${name}.sig=`)
  const kept = lines.filter((line) => !isSet(line) || /; *max-age=0/i.test(line)) // a cookie that came twice still goes (T21)
  if (kept.length === lines.length) return
  if (kept.length === 0) ctx.remove('set-cookie')
  else ctx.set('set-cookie', kept)
}

function cookieLines(ctx: Context): string[] {
  const header: string | string[] | undefined = ctx.response.headers['set-cookie']
  return header === undefined ? [] : [header].flat()
}

/** What an RP is told while the cookie is being replaced: not `login_required`, which it would take for a logout. */
export function askAgain<Payload extends object>(ctx: object, payload: Payload): Payload {
  if (!rotated.has(ctx) || !('error' in payload) || payload.error !== 'login_required') return payload
  return {
    ...payload,
    error: 'temporarily_unavailable',
    error_description: 'the cookie of the OP session is being replaced; ask again',
  }
}

import type { IncomingHttpHeaders } from 'node:http'

/**
 * Whether a form was sent by a page of this OP's own origin: ask before you change anything for a user whom you know by the OP
 * cookie alone. That cookie is `SameSite=None`, so every site on the web can post a form with it (T5).
 *
 * Every browser says on a POST where it comes from, by `Origin`, by `Sec-Fetch-Site` or by both; who says nothing is refused.
 *
 * @param headers Of the request: `req.headers` of Node, Express or Koa.
 * @param issuer The issuer, whose origin the page must have.
 */
export function isSameOrigin(
  { origin, 'sec-fetch-site': site }: Pick<IncomingHttpHeaders, 'origin' | 'sec-fetch-site'>,
  issuer: string,
): boolean {
  if (origin === undefined && site === undefined) return false
  return (origin ?? new URL(issuer).origin) === new URL(issuer).origin && (site ?? 'same-origin') === 'same-origin'
}

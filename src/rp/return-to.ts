/** Characters of the whole URL. It goes into a cookie, of which browsers keep 4,096 bytes; each letter beyond ASCII is six of these or more. */
const LONGEST = 1000

/**
 * Turns a `return_to` into an absolute URL of this app, or into its start page when it would lead anywhere else.
 *
 * The value is judged as a browser would resolve it, twice: what looks like a path may name another host once dots are
 * removed (`/.//evil.example`). Our own routes are no places to return to, so that nothing loops.
 */
export function safeReturnTo(value: string | undefined, app: { origin: string; home: string; base: string }): string {
  const home = app.origin + app.home
  // Browsers drop tabs and newlines and take "\" for "/" before they resolve; a path has no need of any of them.
  if (value === undefined || !/^\/[^/\\]/.test(`${value} `) || /[\p{Cc}\\]/u.test(value)) return home
  const url = new URL(value, app.origin) // which takes every path
  if (url.origin !== app.origin || url.pathname.startsWith('//')) return home
  if (url.pathname === app.base || url.pathname.startsWith(`${app.base}/`)) return home
  return url.href.length > LONGEST ? home : url.href
}

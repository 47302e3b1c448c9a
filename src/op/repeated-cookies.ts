import type { IncomingMessage, ServerResponse } from 'node:http'

/**
 * Takes an OP cookie that came twice out of the request, and away from the browser (T21).
 *
 * A host beside the OP's can plant a cookie of the same name for the whole domain, and nothing in a request tells the two
 * apart. So neither is believed: the user signs in again. Both are deleted, wherever they may be, or the planted one would
 * spoil the next sign-in as well. (Of a name with `__Host-` browsers keep one only; the others must be let go by path and
 * domain.)
 */
export function dropRepeatedCookies(req: IncomingMessage, res: ServerResponse, names: ReadonlySet<string>): void {
  const header = req.headers.cookie
  if (header === undefined) return
  const cookies = header.split(';').map((cookie) => cookie.trim())
  const seen = new Set<string>()
  const repeated = new Set<string>()
  for (const cookie of cookies) {
    const name = nameOf(cookie)
    if (!names.has(name.replace(/\.sig$/, ''))) continue
    if (seen.has(name)) repeated.add(name.replace(/\.sig$/, ''))
    seen.add(name)
  }
  if (repeated.size === 0) return
  req.headers.cookie = cookies.filter((cookie) => !repeated.has(nameOf(cookie).replace(/\.sig$/, ''))).join('; ')
  if (res.headersSent) return
  for (const name of repeated) {
    for (const each of [name, `${name}.sig`])
      for (const line of deletions(each, req)) res.appendHeader('set-cookie', line)
  }
}

function nameOf(cookie: string): string {
  return cookie.split('=', 1)[0] ?? ''
}

/** A cookie is deleted by its name, domain and path; a browser ignores those that this host may not set. */
function deletions(name: string, req: IncomingMessage & { originalUrl?: string }): string[] {
  const line = (path: string, domain = ''): string =>
    `${name}=; Path=${path}${domain}; Max-Age=0; Secure; SameSite=None`
  if (name.startsWith('__Host-')) return [line('/')] // browsers refuse any other, of that name
  const { originalUrl, url = '/', headers } = req
  const host = /^[\w.-]+/.exec(headers.host ?? '')?.[0] ?? ''
  const labels = host.length > LONGEST ? [] : host.split('.').slice(-MOST_LABELS)
  const domains = labels.slice(0, -1).map((_, index) => `; Domain=${labels.slice(index).join('.')}`)
  const [path = ''] = /^[\w./~%-]*/.exec(originalUrl ?? url) ?? []
  const steps = path.length > LONGEST ? [] : path.split('/').slice(1, MOST_STEPS + 1)
  const paths = steps.map((_, index) => `/${steps.slice(0, index + 1).join('/')}`)
  return ['', ...domains].flatMap((domain) => ['/', ...paths].map((each) => line(each, domain)))
}

/**
 * Labels of a host and steps of a path that are looked at: what we answer must not be many times what was asked, nor more than a
 * proxy takes as headers. A mount of one step, and a route with an id, are three.
 */
const MOST_LABELS = 3
const MOST_STEPS = 3
/** Characters of a host or a path beyond which it is not looked at: no address of an OP is so long. */
const LONGEST = 100

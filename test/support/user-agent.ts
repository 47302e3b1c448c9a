import { Agent, request } from 'undici'

/** What a navigation or a request ended with; bodies are text. */
export interface Page {
  readonly url: string
  readonly status: number
  readonly body: string
  header(name: string): string | undefined
  /** URLs that were passed on the way, the first one included. */
  readonly trail: readonly string[]
}

export interface Cookie {
  readonly name: string
  readonly value: string
  readonly host: string
  readonly path: string
  readonly sameSite: 'strict' | 'lax' | 'none'
  readonly httpOnly: boolean
}

interface StoredCookie extends Cookie {
  readonly domain?: string
  readonly expires?: number
}

interface Attempt {
  readonly method: string
  readonly url: URL
  readonly body?: string
  readonly dest: 'document' | 'iframe' | 'empty'
  /** Origin of the page that started it; `undefined` for the address bar. */
  readonly initiator: string | undefined
  readonly headers?: Readonly<Record<string, string>>
  readonly crossed: boolean
}

/** One event of a server-sent event stream. */
export interface StreamEvent {
  readonly event: string
  readonly data: string
}

export interface UserAgent {
  /** Types a URL into the address bar and follows redirects and self-submitting forms. */
  open(url: string, headers?: Readonly<Record<string, string>>): Promise<Page>
  /** Follows a link of a page. */
  click(page: Page, href: string): Promise<Page>
  /** Submits a form of a page: its only one, or the one whose action contains `action`; `fields` override its inputs. */
  submit(page: Page, fields?: Readonly<Record<string, string>>, action?: string): Promise<Page>
  /** A `fetch` by a script of that page (or of that origin). Redirects are not followed. */
  fetch(from: Page | string, url: string, init?: FetchInit): Promise<Page>
  /** Loads a URL in an iframe of that page and follows redirects. */
  frame(page: Page | string, url: string): Promise<Page>
  /** Opens a stream of server-sent events as a script of that origin. Throws when the answer is not one. */
  events(from: Page | string, url: string): Promise<EventStream>
  cookies(url: string): readonly Cookie[]
  setCookie(url: string, setCookie: string): void
  close(): Promise<void>
}

export interface FetchInit {
  readonly method?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
}

export interface EventStream {
  /** The next event; `undefined` when the stream has ended. Comments are skipped. */
  next(): Promise<StreamEvent | undefined>
  close(): void
}

/**
 * A small browser for tests: a cookie jar with SameSite and `__Host-` rules, Fetch Metadata, redirects and
 * self-submitting forms. Like real ones it takes every `*.localhost` name to be this machine, where `Secure` cookies work.
 */
export function createUserAgent(): UserAgent {
  const jar: StoredCookie[] = []
  const dispatcher = new Agent({
    keepAliveTimeout: 100,
    bodyTimeout: 0,
    connect: { lookup: (_host, options, callback) => answerLoopback(options.all === true, callback) },
  })

  async function send(attempt: Attempt) {
    const { url } = attempt
    const relation = siteRelation(attempt)
    const headers: Record<string, string> = {
      accept: attempt.dest === 'empty' ? '*/*' : 'text/html,application/xhtml+xml,*/*;q=0.8',
      'sec-fetch-dest': attempt.dest,
      'sec-fetch-mode': attempt.dest === 'empty' ? 'cors' : 'navigate',
      'sec-fetch-site': relation,
      ...attempt.headers,
    }
    const cookies = jar.filter((cookie) => isSent(cookie, attempt, relation))
    if (cookies.length > 0) headers.cookie = cookies.map((cookie) => `${cookie.name}=${cookie.value}`).join('; ')
    if (attempt.method !== 'GET') headers.origin ??= attempt.crossed ? 'null' : (attempt.initiator ?? 'null')
    if (attempt.body !== undefined) headers['content-type'] ??= 'application/x-www-form-urlencoded'
    const answer = await request(url, {
      method: attempt.method as 'GET',
      headers,
      dispatcher,
      ...(attempt.body === undefined ? {} : { body: attempt.body }),
    })
    const set = answer.headers['set-cookie']
    for (const line of set === undefined ? [] : [set].flat()) keepCookie(jar, url, line)
    return answer
  }

  async function load(first: Attempt, follow: boolean): Promise<Page> {
    const trail: string[] = []
    let attempt = first
    for (let hop = 0; hop < 30; hop++) {
      trail.push(attempt.url.href)
      const answer = await send(attempt)
      const body = await answer.body.text()
      const location = answer.headers.location
      if (follow && answer.statusCode >= 300 && answer.statusCode < 400 && typeof location === 'string') {
        attempt = redirected(attempt, answer.statusCode, new URL(location, attempt.url))
        continue
      }
      const page: Page = {
        url: attempt.url.href,
        status: answer.statusCode,
        body,
        header: (name) => [answer.headers[name.toLowerCase()] ?? []].flat()[0],
        trail,
      }
      const form = follow && /<script[^>]*>[^<]*\.submit\(\)/.test(body) ? formsOf(page)[0] : undefined
      if (!form) return page
      attempt = submission(page, form, {}, attempt.dest)
    }
    throw new Error(`more than 30 redirects: ${trail.join(' -> ')}`)
  }

  return {
    open: (url, headers) =>
      load(
        {
          method: 'GET',
          url: new URL(url),
          dest: 'document',
          initiator: undefined,
          crossed: false,
          ...(headers ? { headers } : {}),
        },
        true,
      ),
    click: (page, href) =>
      load(
        {
          method: 'GET',
          url: new URL(unescapeHtml(href), page.url),
          dest: 'document',
          initiator: originOf(page),
          crossed: false,
        },
        true,
      ),
    submit: (page, fields = {}, action = '') => {
      const form = formsOf(page).find((candidate) => candidate.action.includes(action))
      if (!form)
        throw new Error(`no form with action ${action} on ${page.url} (${page.status}): ${page.body.slice(0, 300)}`)
      return load(submission(page, form, fields, 'document'), true)
    },
    fetch: (from, url, init = {}) =>
      load(
        {
          method: init.method ?? 'GET',
          url: new URL(url, originOf(from)),
          dest: 'empty',
          initiator: originOf(from),
          crossed: false,
          ...(init.headers ? { headers: init.headers } : {}),
          ...(init.body === undefined ? {} : { body: init.body }),
        },
        false,
      ),
    frame: (page, url) =>
      load(
        { method: 'GET', url: new URL(url, originOf(page)), dest: 'iframe', initiator: originOf(page), crossed: false },
        true,
      ),
    events: async (from, url) => {
      const initiator = originOf(from)
      const answer = await send({
        method: 'GET',
        url: new URL(url, initiator),
        dest: 'empty',
        initiator,
        crossed: false,
        headers: { accept: 'text/event-stream' },
      })
      if (answer.statusCode !== 200) throw new Error(`no stream: ${answer.statusCode} ${await answer.body.text()}`)
      return readEvents(answer.body)
    },
    cookies: (url) => jar.filter((cookie) => matches(cookie, new URL(url))),
    setCookie: (url, line) => keepCookie(jar, new URL(url), line),
    close: () => dispatcher.destroy(),
  }
}

type LookupAnswer = (error: null, address: string | { address: string; family: number }[], family?: number) => void

function answerLoopback(all: boolean, callback: LookupAnswer): void {
  if (all) callback(null, [{ address: '127.0.0.1', family: 4 }])
  else callback(null, '127.0.0.1', 4)
}

function originOf(from: Page | string): string {
  return new URL(typeof from === 'string' ? from : from.url).origin
}

/** Scheme and registrable domain; `localhost` counts as a public suffix, as in browsers. */
function siteOf(url: URL): string {
  const { hostname } = url
  const isAddress = hostname.startsWith('[') || /^[\d.]+$/.test(hostname)
  return `${url.protocol}//${isAddress ? hostname : hostname.split('.').slice(-2).join('.')}`
}

function siteRelation(attempt: Attempt): 'none' | 'same-origin' | 'same-site' | 'cross-site' {
  if (attempt.initiator === undefined) return 'none'
  if (attempt.crossed || siteOf(new URL(attempt.initiator)) !== siteOf(attempt.url)) return 'cross-site'
  return attempt.initiator === attempt.url.origin ? 'same-origin' : 'same-site'
}

function redirected(attempt: Attempt, status: number, url: URL): Attempt {
  const keepsBody = status === 307 || status === 308 || attempt.method === 'GET'
  const { body, ...rest } = attempt
  return {
    ...rest,
    ...(keepsBody && body !== undefined ? { body } : {}),
    method: keepsBody ? attempt.method : 'GET',
    url,
    crossed: attempt.crossed || siteRelation(attempt) === 'cross-site',
  }
}

function matches(cookie: StoredCookie, url: URL): boolean {
  const host = cookie.domain ? `.${url.hostname}`.endsWith(`.${cookie.domain}`) : url.hostname === cookie.host
  return host && (url.pathname === cookie.path || url.pathname.startsWith(cookie.path.replace(/\/?$/, '/')))
}

function isSent(cookie: StoredCookie, attempt: Attempt, relation: string): boolean {
  if (!matches(cookie, attempt.url)) return false
  if (cookie.sameSite === 'none' || relation !== 'cross-site') return true
  // An iframe's own redirects through a foreign site do not make our cookies foreign: the top page is ours.
  const ours = attempt.initiator !== undefined && siteOf(new URL(attempt.initiator)) === siteOf(attempt.url)
  if (attempt.dest !== 'document') return ours
  return cookie.sameSite === 'lax' && attempt.method === 'GET'
}

function keepCookie(jar: StoredCookie[], url: URL, line: string): void {
  const [pair = '', ...attributes] = line.split(';').map((part) => part.trim())
  const name = pair.slice(0, pair.indexOf('='))
  const get = (key: string) =>
    attributes
      .find((attribute) => attribute.toLowerCase().split('=')[0] === key)
      ?.split('=')
      .slice(1)
      .join('=')
  const domain = get('domain')?.replace(/^\./, '')
  const path = get('path') ?? (url.pathname.replace(/\/[^/]*$/, '') || '/')
  const secure = get('secure') !== undefined
  if (name.startsWith('__Host-') && (!secure || domain || path !== '/')) throw new Error(`a browser refuses ${line}`)
  if (name.startsWith('__Secure-') && !secure) throw new Error(`a browser refuses ${line}`)
  const sameSite = get('samesite')?.toLowerCase() ?? 'lax'
  const maxAge = get('max-age')
  const expires = maxAge === undefined ? Date.parse(get('expires') ?? '') : Date.now() + Number(maxAge) * 1000
  const index = jar.findIndex((cookie) => cookie.name === name && cookie.host === url.hostname && cookie.path === path)
  if (index >= 0) jar.splice(index, 1)
  if (expires <= Date.now()) return
  jar.push({
    name,
    value: pair.slice(pair.indexOf('=') + 1),
    host: url.hostname,
    path,
    sameSite: sameSite === 'none' || sameSite === 'strict' ? sameSite : 'lax',
    httpOnly: get('httponly') !== undefined,
    ...(domain ? { domain } : {}),
    ...(Number.isNaN(expires) ? {} : { expires }),
  })
}

interface Form {
  readonly action: string
  readonly method: string
  readonly fields: Readonly<Record<string, string>>
}

function formsOf(page: Page): Form[] {
  return [...page.body.matchAll(/<form\b([^>]*)>([\s\S]*?)<\/form>/gi)].map(([, attributes = '', inside = '']) => {
    const fields: Record<string, string> = {}
    for (const [, tag = '', input = ''] of inside.matchAll(/<(input|button)\b([^>]*)>/gi)) {
      const name = attribute(input, 'name')
      const type = attribute(input, 'type')?.toLowerCase()
      if (name === undefined || tag === 'button' || type === 'submit') continue
      if ((type === 'checkbox' || type === 'radio') && !/\bchecked\b/i.test(input)) continue
      fields[name] = attribute(input, 'value') ?? ''
    }
    return {
      action: new URL(attribute(attributes, 'action') ?? '', page.url).href,
      method: (attribute(attributes, 'method') ?? 'get').toUpperCase(),
      fields,
    }
  })
}

function attribute(text: string, name: string): string | undefined {
  const found = new RegExp(`(?:^|\\s)${name}\\s*=\\s*(?:"([^"]*)"|'([^']*)'|([^\\s>]+))`, 'i').exec(text)
  const value = found?.[1] ?? found?.[2] ?? found?.[3]
  return value === undefined ? undefined : unescapeHtml(value)
}

function unescapeHtml(text: string): string {
  return text
    .replaceAll('&lt;', '<')
    .replaceAll('&gt;', '>')
    .replaceAll('&quot;', '"')
    .replaceAll('&#39;', "'")
    .replaceAll('&#x27;', "'")
    .replaceAll('&#34;', '"')
    .replaceAll('&amp;', '&')
}

function submission(page: Page, form: Form, fields: Readonly<Record<string, string>>, dest: Attempt['dest']): Attempt {
  const body = new URLSearchParams({ ...form.fields, ...fields }).toString()
  const url = new URL(form.action)
  const base = { dest, initiator: originOf(page), crossed: false }
  if (form.method === 'POST') return { ...base, method: 'POST', url, body }
  url.search = body
  return { ...base, method: 'GET', url }
}

function readEvents(body: AsyncIterable<Buffer> & { destroy(): unknown }): EventStream {
  const chunks = body[Symbol.asyncIterator]()
  const decoder = new TextDecoder()
  let buffer = ''
  return {
    async next() {
      for (;;) {
        const end = buffer.indexOf('\n\n')
        if (end >= 0) {
          const lines = buffer.slice(0, end).split('\n')
          buffer = buffer.slice(end + 2)
          const data = lines.filter((line) => line.startsWith('data: ')).map((line) => line.slice(6))
          if (data.length === 0) continue
          const event = lines.find((line) => line.startsWith('event: '))?.slice(7) ?? 'message'
          return { event, data: data.join('\n') }
        }
        const chunk = await chunks.next()
        if (chunk.done) return undefined
        buffer += decoder.decode(chunk.value, { stream: true })
      }
    },
    close: () => {
      body.destroy()
    },
  }
}

import { randomBytes } from 'node:crypto'
import type { Context } from 'hono'
import { type ErrorView, errorPage } from './pages/error-page.ts'
import { layout, type Page } from './pages/layout.ts'

/** What every page of one OP has in common. */
export interface Site {
  readonly issuer: string
  /** Path under which this OP lives, without a slash at its end. */
  readonly base: string
  readonly demo: boolean
}

/** Headers of each page: nothing from elsewhere, never framed (T5), never cached. */
export const PAGE_HEADERS: Readonly<Record<string, string>> = {
  'content-type': 'text/html; charset=utf-8',
  // No form-action: after the login the form's POST is redirected to the app, and browsers hold redirects against it.
  'content-security-policy': [
    "default-src 'none'",
    "style-src 'self'",
    "img-src 'self'",
    "script-src 'self'",
    "frame-ancestors 'none'",
    "base-uri 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ].join('; '),
  'x-frame-options': 'DENY',
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'same-origin',
  'cache-control': 'no-store',
}

/** Renders a page of this OP. */
export function render(site: Site, title: string, main: Page, script?: string): Page {
  const { host } = new URL(site.issuer)
  return layout({ title, base: site.base, host, demo: site.demo, main, ...(script === undefined ? {} : { script }) })
}

/** Answers with a page. */
export function answerPage(
  c: Context,
  status: 200 | 400 | 403 | 404 | 413 | 422 | 429 | 500,
  page: Page,
): Response | Promise<Response> {
  return c.html(page, status, { ...PAGE_HEADERS })
}

/** Renders an error, with a code that the log has too. */
export function renderError(site: Site, view: Omit<ErrorView, 'code'>, code: string): Page {
  return render(site, view.title, errorPage({ ...view, code }))
}

/** A short code to find one failure by. */
export function newErrorCode(): string {
  return randomBytes(5).toString('hex')
}

/** What people read instead of a protocol error. */
export const notFound: Omit<ErrorView, 'code'> = {
  title: 'There is nothing here',
  happened: 'This address does not lead to a page.',
  lost: 'Nothing was lost.',
  todo: 'Go back to the app you came from and try from there.',
}

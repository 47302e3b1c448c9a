import { createHash } from 'node:crypto'
import { type Html, html, raw } from '../runtime/html.ts'
import { page, type RpAnswer } from './http.ts'
import type { ResolvedRpOptions } from './options.ts'

type App = Pick<ResolvedRpOptions<never>, 'origin' | 'home' | 'base'>

const style = `
:root { color-scheme: light dark; --accent: light-dark(#4f46e5, #a5b4fc); --on-accent: light-dark(#fff, #1e1b4b) }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0; background: light-dark(#f4f4f5, #18181b); color: light-dark(#27272a, #e4e4e7) }
main { box-sizing: border-box; width: min(36rem, 100% - 32px); margin: 15vh auto 0; padding: 32px; border-radius: 12px; background: light-dark(#fff, #27272a); box-shadow: 0 1px 8px #0002 }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 16px } p { margin: 0 0 16px } small { color: light-dark(#52525b, #a1a1aa) }
form { display: inline } a, button { display: inline-block; font: inherit; padding: 8px 16px; margin: 0 8px 8px 0; border-radius: 12px;
border: 1px solid var(--accent); color: var(--accent); background: none; text-decoration: none; cursor: pointer }
.first { background: var(--accent); color: var(--on-accent) } :focus-visible { outline: 3px solid var(--accent); outline-offset: 2px }`

const autoSubmit = 'document.forms[0].submit()'
const hashOf = (text: string): string => `'sha256-${createHash('sha256').update(text).digest('base64')}'`

// No form-action: browsers apply it to the redirects after a submission too, and the OP decides where those lead.
const csp = `default-src 'none'; style-src ${hashOf(style)}; base-uri 'none'; frame-ancestors 'none'`
const cspWithScript = `${csp}; script-src ${hashOf(autoSubmit)}`

/** Asks before signing out: a GET never ends anything. */
export function confirmLogoutPage(app: App, returnTo: string): RpAnswer {
  const to = html`<input type="hidden" name="return_to" value="${returnTo}">`
  const content = html`
    <h1>Sign out?</h1>
    <p>You can sign out of every app you signed in to with this account, or of this app only.</p>
    <form method="post" action="${app.base}/logout">${to}
      <input type="hidden" name="from" value="everywhere"><button>Sign out everywhere</button></form>
    <form method="post" action="${app.base}/logout">${to}
      <input type="hidden" name="from" value="this-app"><button>Only from this app</button></form>`
  return page(200, layout('Sign out', content), csp)
}

/** Takes the browser to the OP's Logout Endpoint by POST, so that the ID Token stays out of URLs and logs (T12). */
export function goodbyePage(
  endpoint: string,
  fields: Readonly<Record<string, string>>,
  cookies: readonly string[],
): RpAnswer {
  const inputs = Object.entries(fields).map(
    ([name, value]) => html`<input type="hidden" name="${name}" value="${value}">`,
  )
  const content = html`
    <h1>Signing out …</h1>
    <form method="post" action="${endpoint}">${inputs}<button class="first">Continue</button></form>
    <script>${raw(autoSubmit)}</script>`
  return page(200, layout('Signing out', content), cspWithScript, cookies)
}

/** Where the browser ends after a logout that names no other place. */
export function loggedOutPage(
  app: App,
  about: {
    readonly note?: string
    /** Offers to tell the OP once more. */
    readonly canRetry?: boolean
    readonly status?: number
    readonly cookies: readonly string[]
    readonly returnTo?: string | undefined
  },
): RpAnswer {
  const { note, canRetry = false, status = 200, cookies, returnTo } = about
  const content = html`
    <h1>You are signed out</h1>
    ${note !== undefined && html`<p>${note}</p>`}
    ${canRetry && html`<form method="post" action="${app.base}/logout"><button>Try to sign out there</button></form>`}
    <a class="first" href="${loginLink(app, returnTo)}">Sign in again</a><a href="${app.home}">Start page</a>`
  return page(status, layout('Signed out', content), csp, cookies)
}

/** The same place, for who has signed in again since. */
export function signedInPage(app: App, cookies: readonly string[]): RpAnswer {
  const content = html`
    <h1>You are signed in</h1>
    <a class="first" href="${app.home}">Start page</a><a href="${app.base}/logout">Sign out</a>`
  return page(200, layout('Signed in', content), csp, cookies)
}

/** A login that came to nothing: what happened, and one thing to do. Nothing is retried by itself. */
export function loginFailedPage(
  app: App,
  status: number,
  what: string,
  code: string,
  cookies: readonly string[] = [],
  returnTo?: string,
): RpAnswer {
  const content = html`
    <h1>You are not signed in</h1>
    <p>${what}</p>
    <a class="first" href="${loginLink(app, returnTo)}">Try again</a><a href="${app.home}">Start page</a>
    <p><small>Code: ${code}</small></p>`
  return page(status, layout('Not signed in', content), csp, cookies)
}

function loginLink({ origin, base }: App, returnTo: string | undefined): string {
  return `${base}/login${returnTo === undefined ? '' : `?${new URLSearchParams({ return_to: returnTo.slice(origin.length) })}`}`
}

function layout(title: string, content: Html): Html {
  return html`<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${title}</title><style>${raw(style)}</style></head><body><main>${content}</main></body></html>`
}

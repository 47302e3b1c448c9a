import { createHash } from 'node:crypto'
import { type Html, html, raw } from '../runtime/html.ts'
import { page, type RpAnswer } from './http.ts'
import type { ResolvedRpOptions } from './options.ts'

type App = Pick<ResolvedRpOptions<never>, 'origin' | 'home' | 'base'>

// As the OP's built-in pages look (src/op/pages/page.ts): people see them in turn.
const style = `
:root { color-scheme: light dark; --ground: light-dark(#f6f6f8, #121217); --card: light-dark(#fff, #1c1c23); --text: light-dark(#1c1c22, #ececf1);
  --quiet: light-dark(#5b5b66, #a4a4b0); --line: light-dark(#dcdce3, #33333d); --accent: light-dark(#4f46e5, #a5b4fc); --on-accent: light-dark(#fff, #14142b) }
* { box-sizing: border-box }
body { margin: 0; background: var(--ground); color: var(--text); font: 16px/1.5 system-ui, sans-serif }
main { max-width: 36rem; margin: 12vh auto 4rem; padding: 32px; background: var(--card); border: 1px solid var(--line);
  border-radius: 12px; box-shadow: 0 8px 24px rgb(0 0 0 / 8%); overflow-wrap: anywhere }
@media (max-width: 40rem) { main { margin: 16px; padding: 24px } }
h1 { margin: 0 0 8px; font-size: 1.5rem; line-height: 1.25; text-wrap: balance } p { margin: 0 } .quiet { margin: 16px 0 0; color: var(--quiet); font-size: 0.9rem }
.choice { display: flex; flex-wrap: wrap; gap: 16px; margin-top: 24px } .choice > * { flex: 1 1 13rem }
a, button { display: block; width: 100%; padding: 12px 16px; border: 1px solid var(--accent); border-radius: 12px; background: none; color: var(--accent);
  font: inherit; font-weight: 600; text-align: center; text-decoration: none; cursor: pointer }
.first { background: var(--accent); color: var(--on-accent) } :focus-visible { outline: 3px solid var(--accent); outline-offset: 3px }`

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
    <div class="choice"><form method="post" action="${app.base}/logout">${to}
      <input type="hidden" name="from" value="everywhere"><button>Sign out everywhere</button></form>
    <form method="post" action="${app.base}/logout">${to}
      <input type="hidden" name="from" value="this-app"><button>Only from this app</button></form></div>`
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
    <form class="choice" method="post" action="${endpoint}">${inputs}<button class="first">Continue</button></form>
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
    <h1>${note === undefined ? 'You are signed out' : 'You are signed out of this app'}</h1>
    ${note !== undefined && html`<p>${note}</p>`}
    <div class="choice">${canRetry && html`<form method="post" action="${app.base}/logout"><button class="first">Try to sign out there</button></form>`}
    <a class="${canRetry ? '' : 'first'}" href="${loginLink(app, returnTo)}">Sign in again</a><a href="${app.home}">Start page</a></div>`
  return page(status, layout('Signed out', content), csp, cookies)
}

/** The same place, for who has signed in again since. */
export function signedInPage(app: App, cookies: readonly string[]): RpAnswer {
  const content = html`
    <h1>You are signed in</h1>
    <div class="choice"><a class="first" href="${app.home}">Start page</a><a href="${app.base}/logout">Sign out</a></div>`
  return page(200, layout('Signed in', content), csp, cookies)
}

/** What came to nothing, and why. */
interface Failure {
  readonly status: number
  readonly what: string
  readonly code: string
  readonly cookies?: readonly string[]
}

/** A login that came to nothing: what happened, and one thing to do. Nothing is retried by itself; who was signed in before still is. */
export function loginFailedPage(app: App, failure: Failure & { readonly returnTo?: string }): RpAnswer {
  return failedPage(app, 'The sign-in did not work', loginLink(app, failure.returnTo), failure)
}

/** A logout that came to nothing. It is asked for anew, so that it never ends more than was meant. */
export function logoutFailedPage(app: App, failure: Failure): RpAnswer {
  return failedPage(app, 'The sign-out did not work', `${app.base}/logout`, failure)
}

/** The end of a logout, where it cannot be said who is signed in. */
export function arrivalFailedPage(app: App, failure: Failure): RpAnswer {
  return failedPage(app, 'Signed out or not?', `${app.base}/logged-out`, failure)
}

function failedPage(app: App, title: string, retry: string, { status, what, code, cookies }: Failure): RpAnswer {
  const content = html`
    <h1>${title}</h1>
    <p>${what}</p>
    <div class="choice"><a class="first" href="${retry}">Try again</a><a href="${app.home}">Start page</a></div>
    <p class="quiet">Code: ${code}</p>`
  return page(status, layout(title, content), csp, cookies)
}

function loginLink({ origin, base }: App, returnTo: string | undefined): string {
  return `${base}/login${returnTo === undefined ? '' : `?${new URLSearchParams({ return_to: returnTo.slice(origin.length) })}`}`
}

function layout(title: string, content: Html): Html {
  return html`<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${title}</title><style>${raw(style)}</style></head><body><main>${content}</main></body></html>`
}

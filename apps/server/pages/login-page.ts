import { html } from 'hono/html'
import { displayName } from '../accounts.ts'
import type { ConfiguredAccount } from '../config.ts'
import type { Page } from './layout.ts'

/** What the login page shows. */
export interface LoginView {
  /** Name of the app that asked for the login. */
  readonly app: string
  readonly csrf: string
  readonly username: string
  readonly password: string
  /** What was wrong with the last try, in words. */
  readonly problem?: string
  /** Accounts to choose from; only the demo shows any. */
  readonly accounts: readonly ConfiguredAccount[]
}

/** "Sign in to continue to Notes": two fields and one button, and in the demo its accounts. */
export function loginPage({ app, csrf, username, password, problem, accounts }: LoginView): Page {
  return html`<section class="card narrow">
<h1>Sign in to continue to ${app}</h1>
<form method="post" id="sign-in">
${problem === undefined ? '' : html`<p class="problem" id="problem" role="alert">${problem}</p>`}
<input type="hidden" name="csrf" value="${csrf}">
<label for="username">Username</label>
<input id="username" name="username" value="${username}" autocomplete="username" autocapitalize="none" spellcheck="false"
  maxlength="200" required ${username === '' ? 'autofocus' : ''} ${blame(problem)}>
<label for="password">Password</label>
<input id="password" name="password" type="password" value="${password}" autocomplete="current-password"
  maxlength="1000" required ${username !== '' ? 'autofocus' : ''} ${blame(problem)}>
<button class="primary" type="submit">Sign in</button>
</form>
</section>
${accounts.length === 0 ? '' : demoAccounts(accounts)}`
}

/** Without scripts each button loads the page again with its fields filled; with them it fills the fields in place. */
function demoAccounts(accounts: readonly ConfiguredAccount[]): Page {
  return html`<section class="demo narrow" aria-labelledby="demo-title">
<h2 id="demo-title">Demo accounts</h2>
<p class="quiet">Choose one to fill in the form, then sign in.</p>
<form method="get" class="people">
${accounts.map(
  (account) => html`<button type="submit" name="account" value="${account.username}" class="person"
 data-username="${account.username}" data-password="${account.password}">
<span class="initial" aria-hidden="true">${displayName(account).slice(0, 1)}</span>
<span><b>${displayName(account)}</b> <small>${account.username} · ${account.password}</small></span>
</button>`,
)}
</form>
</section>`
}

function blame(problem: string | undefined): Page | string {
  return problem === undefined ? '' : html`aria-invalid="true" aria-describedby="problem"`
}

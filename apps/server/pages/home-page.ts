import { html } from 'hono/html'
import type { Page } from './layout.ts'

/** An app as a page names it. */
export interface AppLink {
  readonly name: string
  readonly url?: string
}

/** Who is signed in, where, and the way out; the Logout Endpoint asks before it ends anything. */
export function signedInPage(view: { name: string; apps: readonly AppLink[]; signOutUrl: string }): Page {
  const { name, apps, signOutUrl } = view
  return html`<section class="card">
<h1>You are signed in as ${name}</h1>
<h2>${apps.length === 0 ? 'No app has used this sign-in yet' : 'Your apps'}</h2>
${
  apps.length === 0
    ? html`<p class="quiet">Apps that you open while signed in here appear in this list.</p>`
    : html`<ul class="apps">${apps.map((app) => html`<li>${tick}<span>${linked(app)}</span><span class="state">Signed in</span></li>`)}</ul>`
}
<a class="button primary" href="${signOutUrl}">Sign out</a>
<p class="quiet">${apps.length === 0 ? 'You will be asked to confirm.' : 'Signs you out of all of them, in every open tab. You will be asked to confirm.'}</p>
</section>`
}

/** What this place is, for somebody who is not signed in. */
export function signedOutPage(view: { apps: readonly AppLink[] }): Page {
  return html`<section class="card">
<h1>You are not signed in</h1>
<p>Apps send you here to sign in. You do it once for all of them, and when you sign out in one, every open tab of every app
signs out.</p>
${
  view.apps.length === 0
    ? html`<p class="quiet">To sign in, open the app you want to use.</p>`
    : html`<h2>Open an app</h2><ul class="apps">${view.apps.map((app) => html`<li><span>${linked(app)}</span></li>`)}</ul>`
}
</section>`
}

function linked(app: AppLink): Page | string {
  return app.url === undefined ? app.name : html`<a href="${app.url}">${app.name}</a>`
}

const tick: Page = html`<svg class="tick" viewBox="0 0 20 20" width="20" height="20" aria-hidden="true">
<circle cx="10" cy="10" r="7" fill="none" stroke="currentColor" stroke-width="2"/><circle cx="10" cy="10" r="3" fill="currentColor"/></svg>`

import { html } from 'hono/html'
import type { SessionEnd } from 'lockstep'
import type { DemoApp } from '../demo-apps.ts'
import { layout, type Page } from './layout.ts'

/** The app itself, for whoever is signed in; its strip and its end are told by the monitor's events. */
export function appPage(app: DemoApp, { sub, name, prefix }: { sub: string; name: string; prefix: string }): Page {
  return layout({
    id: app.id,
    name: app.name,
    title: app.name,
    scripts: html`<script type="module" src="${prefix}/session-monitor.js" data-on-ended="event" data-signed-in="${sub}"></script>`,
    header: html`<div class="person"><span class="who">${name}</span>
${signOut(prefix, 'everywhere', '/signed-out', html`<button class="primary">Sign out</button>`)}
${signOut(prefix, 'this-app', '/signed-out?only', html`<button class="quiet" title="Your other apps stay signed in">only from this app</button>`)}</div>`,
    main: html`<div id="content">${app.content}</div>`,
    strip: 'asking',
  })
}

function signOut(prefix: string, from: string, returnTo: string, button: Page): Page {
  return html`<form method="post" action="${prefix}/logout"><input type="hidden" name="from" value="${from}">
<input type="hidden" name="return_to" value="${returnTo}">${button}</form>`
}

/** Says that it worked, to whoever signed out in this tab. */
export function signedOutPage(app: DemoApp, { prefix, onlyHere }: { prefix: string; onlyHere: boolean }): Page {
  const what = onlyHere
    ? html`You are signed out of ${app.name} only. Your other apps stay signed in.`
    : html`Your other apps are told as well: their open tabs sign out by themselves.`
  return endPage(app, prefix, what)
}

/** The way in, for whoever is not signed in; a tab that comes back late still learns how its sign-in ended. */
export function welcomePage(
  app: DemoApp,
  { issuer, prefix, end }: { issuer: string; prefix: string; end: SessionEnd | undefined },
): Page {
  if (end) return endPage(app, prefix, endSentence(end))
  return layout({
    id: app.id,
    name: app.name,
    title: app.name,
    strip: 'not signed in',
    main: html`<section class="card welcome">
<img src="/assets/${app.id}.svg" alt="" width="64" height="64">
<h1>${app.claim}</h1>
<p>You are not signed in to ${app.name}.</p>
<a class="button primary" href="${prefix}/login">Sign in</a>
<p class="fine">You sign in at ${new URL(issuer).host}, once for all of your apps.</p>
</section>`,
  })
}

function endPage(app: DemoApp, prefix: string, what: Page): Page {
  return layout({
    id: app.id,
    name: app.name,
    title: `Signed out · ${app.name}`,
    strip: 'not signed in',
    main: html`<section class="card ended">
<svg viewBox="0 0 40 40" width="40" height="40" aria-hidden="true"><circle cx="20" cy="20" r="18" fill="currentColor"/>
<path d="M12 21l6 6 11-13" fill="none" stroke="var(--card)" stroke-width="4" stroke-linecap="round" stroke-linejoin="round"/></svg>
<div><h1>Signed out</h1>
<p>${what}</p>
<a class="button primary" href="${prefix}/login">Sign in again</a></div>
</section>`,
  })
}

function endSentence({ by, cause, at }: SessionEnd): Page {
  const when = new Date(at * 1000)
  const time = html`<time datetime="${when.toISOString()}">${when.toTimeString().slice(0, 8)}</time>`
  if (by !== undefined) return html`You signed out of ${by} at ${time}.`
  if (cause === 'expired') return html`Your sign-in ran out at ${time}.`
  if (cause === 'user_switched') return html`Somebody else signed in in this browser at ${time}.`
  if (cause === 'rp_initiated' || cause === 'this_app') return html`You signed out at ${time}.`
  return html`Your sign-in ended at ${time}.`
}

/** What happened, whether anything was lost, and one thing to do. */
export function problemPage(
  app: DemoApp,
  view: { title: string; happened: string; todo: string; link?: { href: string; text: string } },
): Page {
  return layout({
    id: app.id,
    name: app.name,
    title: `${view.title} · ${app.name}`,
    strip: 'asking',
    main: html`<section class="card"><h1>${view.title}</h1><p>${view.happened}</p><p>${view.todo}</p>
${view.link ? html`<a class="button" href="${view.link.href}">${view.link.text}</a>` : ''}</section>`,
  })
}

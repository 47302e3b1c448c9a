import { type Html, html } from '../runtime/html.ts'
import type { Answer } from './http.ts'
import { page } from './page.ts'
import type { Delivery } from './store/contract.ts'

/** Asks whether to sign out: who is signed in, which apps will be signed out, two buttons of equal weight. */
export function confirmPage(input: {
  readonly action: string
  readonly sealed: string
  readonly account: string
  readonly apps: readonly string[]
  readonly askedBy: string | undefined
  readonly leadsAway: boolean
}): Answer {
  const { action, sealed, account, apps, askedBy, leadsAway } = input
  return page({
    status: 200,
    title: 'Sign out?',
    leadsAway,
    body: html`<h1>Sign out everywhere?</h1>
<p>${askedBy === undefined ? undefined : html`${askedBy} asks to sign you out. `}You are signed in as <strong>${account}</strong>.
${apps.length === 0 ? 'No app is signed in with this account in this browser.' : 'These apps will be signed out in this browser:'}</p>
${apps.length === 0 ? undefined : html`<ul>${apps.map((name) => html`<li>${name}</li>`)}</ul>`}
<form class="choice" method="post" action="${action}">
<input type="hidden" name="request" value="${sealed}">
<button name="answer" value="yes">Sign out</button>
<button name="answer" value="no">Stay signed in</button>
</form>`,
  })
}

/** Says that nothing was ended, because the user said so. */
export function stayedPage(home: string): Answer {
  return page({
    status: 200,
    title: 'Still signed in',
    body: html`<h1>You are still signed in</h1><p>Nothing was changed. You can go on in your apps.</p>
<a class="button" href="${home}">Continue</a>`,
  })
}

/** Says how the logout went, app by app, as far as it is known; looks again by itself while something is under way. */
export function signedOutPage(input: {
  readonly apps: readonly { readonly name: string; readonly delivery: Delivery }[]
  readonly now: number
  readonly home: string
}): Answer {
  const { apps, now, home } = input
  const open = apps.some(({ delivery }) => delivery.state === 'due' || delivery.state === 'in-flight')
  return page({
    status: 200,
    title: 'Signed out',
    ...(open ? { refresh: 2 } : {}),
    body: html`<h1>${headline(apps.map(({ delivery }) => delivery))}</h1>
<p>It is safe to leave this page. ${open ? 'Whatever is still open goes on by itself.' : undefined}</p>
${apps.length === 0 ? undefined : html`<ul aria-live="polite">${apps.map(({ name, delivery }) => html`<li><span>${name}</span>${state(delivery, now)}</li>`)}</ul>`}
<a class="button" href="${home}">Continue</a>`,
  })
}

function headline(deliveries: readonly Delivery[]): string {
  const told = deliveries.filter(({ state }) => state === 'delivered').length
  if (deliveries.length === 0) return 'You are signed out'
  if (told < deliveries.length) return `You are signed out here, and of ${told} of ${deliveries.length} apps`
  return told === 1 ? 'You are signed out of 1 app' : `You are signed out of ${told} apps`
}

function state({ state, dueAt, attempts }: Delivery, now: number): Html {
  switch (state) {
    case 'delivered':
      return mark(
        'told',
        'Signed out',
        html`<circle cx="10" cy="10" r="9" fill="currentColor"/><path d="M5.5 10.5l3 3 6-7" fill="none" stroke="var(--card)" stroke-width="2"/>`,
      )
    case 'refused':
      return mark(
        'failed',
        'Refused',
        html`<rect x="2" y="2" width="16" height="16" rx="2" fill="none" stroke="currentColor" stroke-width="2"/><path d="M6 10h8" stroke="currentColor" stroke-width="2"/>`,
      )
    case 'dead':
      return mark(
        'failed',
        'Not reached',
        html`<rect x="2" y="2" width="16" height="16" rx="2" fill="none" stroke="currentColor" stroke-width="2"/><path d="M6 6l8 8M14 6l-8 8" stroke="currentColor" stroke-width="2"/>`,
      )
    case 'due':
      if (attempts > 0) {
        const seconds = Math.max(1, Math.ceil((dueAt - now) / 1000))
        return mark(
          'later',
          `Next try in ${seconds} s`,
          html`<circle cx="10" cy="10" r="8" fill="none" stroke="currentColor" stroke-width="2"/><path d="M10 5.5V10l3 2" fill="none" stroke="currentColor" stroke-width="2"/>`,
        )
      }
      return telling()
    case 'in-flight':
      return telling()
  }
}

function telling(): Html {
  return mark(
    'waiting',
    'Telling ...',
    html`<circle cx="10" cy="10" r="8" fill="none" stroke="currentColor" stroke-width="2" stroke-dasharray="38 12"/>`,
  )
}

function mark(kind: string, word: string, shape: Html): Html {
  return html`<span class="state ${kind}"><svg viewBox="0 0 20 20" aria-hidden="true">${shape}</svg>${word}</span>`
}

/** Says what was wrong, that nothing was lost, and offers to sign out all the same (RP-Initiated §4: a kiosk's way out). */
export function logoutErrorPage(input: {
  readonly status: number
  readonly what: string
  readonly code: string
  readonly logoutEndpoint: string
}): Answer {
  const { status, what, code, logoutEndpoint } = input
  return page({
    status,
    title: 'Not signed out',
    body: html`<h1>You were not signed out</h1>
<p>${what} Nothing was changed: you are as signed in as before.</p>
<form method="get" action="${logoutEndpoint}"><button>Sign out all the same</button></form>
<p class="quiet">Code: ${code}</p>`,
  })
}

import { html } from 'hono/html'
import type { Page } from './layout.ts'

/** An error in words: what happened, whether anything was lost, one thing to do, and a code to quote. */
export interface ErrorView {
  readonly title: string
  readonly happened: string
  readonly lost: string
  readonly todo: string
  /** Where the one thing to do is, when it is a link. */
  readonly link?: { readonly href: string; readonly text: string }
  readonly code: string
  /** What the app's developer wants to know, in the words of the protocol. */
  readonly detail?: string
}

export function errorPage({ title, happened, lost, todo, link, code, detail }: ErrorView): Page {
  return html`<section class="card">
<h1>${title}</h1>
<p>${happened} ${lost}</p>
<p>${todo}</p>
${link ? html`<a class="button" href="${link.href}">${link.text}</a>` : ''}
<p class="quiet">If you ask for help, quote <code>${code}</code>.${detail ? html` The app’s request: ${detail}.` : ''}</p>
</section>`
}

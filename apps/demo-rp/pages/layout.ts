import { html } from 'hono/html'

/** HTML as hono's tag makes it: every value in it was escaped. */
export type Page = ReturnType<typeof html>

/** What stands around every page of an app. */
export interface Frame {
  readonly id: string
  readonly name: string
  readonly title: string
  readonly header?: Page
  readonly main: Page
  /** What the strip says until a script knows. */
  readonly strip: 'asking' | 'not signed in'
  readonly scripts?: Page
}

/** Wraps a page of an app: its colour, its style sheet, nothing from elsewhere. */
export function layout({ id, name, title, header, main, strip, scripts }: Frame): Page {
  return html`<!doctype html>
<html lang="en" class="app-${id}" data-app="${name}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${title}</title>
<link rel="icon" href="/assets/${id}.svg" type="image/svg+xml">
<link rel="stylesheet" href="/assets/app.css">
<script type="module" src="/assets/app.js"></script>
${scripts ?? ''}
</head>
<body>
<header class="bar">
<a class="brand" href="/"><img src="/assets/${id}.svg" alt="" width="32" height="32">${name}</a>
${header ?? ''}
</header>
<main>${main}</main>
<footer class="strip" id="strip" data-state="${strip === 'asking' ? 'unknown' : 'none'}">
<svg viewBox="0 0 20 20" width="16" height="16" aria-hidden="true"><circle cx="10" cy="10" r="8"/></svg>
<span id="state" aria-live="polite">${strip}</span>
<span id="push"></span>
<time id="checked"></time>
<noscript>This line shows live whether you are signed in; it needs scripts.</noscript>
</footer>
</body>
</html>`
}

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
  /** Stands at the end of the page. */
  readonly strip?: Page
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
${scripts ?? ''}
</head>
<body>
<header class="bar">
<a class="brand" href="/"><img src="/assets/${id}.svg" alt="" width="32" height="32">${name}</a>
${header ?? ''}
</header>
<main>${main}</main>
${strip ?? ''}
</body>
</html>`
}

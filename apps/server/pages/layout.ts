import { html } from 'hono/html'

/** HTML as hono's tag makes it: every value in it was escaped. */
export type Page = ReturnType<typeof html>

/** What stands around every page of this OP. */
export interface Frame {
  readonly title: string
  /** Path under which this OP lives, without a slash at its end; the style sheet is found below it. */
  readonly base: string
  /** Host of the issuer, shown below so that people can see where they are. */
  readonly host: string
  readonly demo: boolean
  readonly main: Page
  readonly script?: string
}

/** Wraps a page: one column, one style sheet, no request to anywhere else. */
export function layout({ title, base, host, demo, main, script }: Frame): Page {
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
<title>${title}</title>
<link rel="icon" href="${base}/assets/mark.svg" type="image/svg+xml">
<link rel="stylesheet" href="${base}/assets/style.css">
${script === undefined ? '' : html`<script type="module" src="${base}/assets/${script}"></script>`}
</head>
<body>
<main>
${main}
</main>
<footer>${host}${demo ? ' · a demo on this machine, nothing here is real' : ''}</footer>
</body>
</html>`
}

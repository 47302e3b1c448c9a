import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { type Html, html, raw } from '../../runtime/html.ts'

const style = `
:root { color-scheme: light dark; --ground: #f6f6f8; --card: #fff; --text: #1c1c22; --quiet: #5b5b66; --line: #dcdce3;
  --accent: #4f46e5; --on-accent: #fff; --told: #15803d; --waiting: #b45309; --failed: #b91c1c; --unknown: #6b7280; }
@media (prefers-color-scheme: dark) { :root { --ground: #121217; --card: #1c1c23; --text: #ececf1; --quiet: #a4a4b0;
  --line: #33333d; --accent: #a5b4fc; --on-accent: #14142b; --told: #4ade80; --waiting: #fbbf24; --failed: #f87171; --unknown: #9ca3af; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--text); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 36rem; margin: 12vh auto 4rem; padding: 32px; background: var(--card); border: 1px solid var(--line);
  border-radius: 12px; box-shadow: 0 8px 24px rgb(0 0 0 / 8%); overflow-wrap: anywhere; }
@media (max-width: 40rem) { main { margin: 16px; padding: 24px; } }
h1 { margin: 0 0 8px; font-size: 1.5rem; line-height: 1.25; text-wrap: balance; }
p { margin: 0 0 16px; } p:last-child { margin-bottom: 0; }
.quiet { color: var(--quiet); font-size: 0.9rem; } form + .quiet, .button + .quiet { margin-top: 16px; }
ul { list-style: none; margin: 16px 0 24px; padding: 0; border-top: 1px solid var(--line); }
li { display: flex; justify-content: space-between; gap: 0 16px; padding: 12px 0; border-bottom: 1px solid var(--line); }
form.choice { display: grid; grid-template-columns: 1fr 1fr; gap: 16px; margin-top: 24px; }
@media (max-width: 30rem) { form.choice { grid-template-columns: 1fr; } }
button, a.button { display: block; width: 100%; padding: 12px 16px; border: 1px solid var(--accent); border-radius: 12px;
  background: var(--accent); color: var(--on-accent); font: inherit; font-weight: 600; text-align: center; text-decoration: none; cursor: pointer; }
form.choice button { background: transparent; color: var(--accent); }
a { color: var(--accent); } :focus-visible { outline: 3px solid var(--accent); outline-offset: 3px; }
.state { display: inline-flex; flex: none; max-width: 66%; align-items: center; gap: 8px; font-weight: 600; }
@media (max-width: 30rem) { li { flex-direction: column; } .state { max-width: none; } }
.told { color: var(--told); } .waiting { color: var(--accent); } .later { color: var(--waiting); } .refused, .dead { color: var(--failed); }
.unknown, .nothing { color: var(--unknown); }
svg { width: 20px; height: 20px; flex: none; } iframe, [hidden] { display: none; }
@keyframes turn { to { transform: rotate(360deg); } }
.waiting svg { animation: turn 2s linear infinite; }
@media (prefers-reduced-motion: reduce) { .waiting svg { animation: none; } }
`

/** What a built-in page holds. */
export interface BuiltInPage {
  readonly language: string
  readonly title: string
  readonly body: Html
  /** Where the page goes by itself: after so many seconds, to a URL or to itself. */
  readonly refresh?: { readonly after: number; readonly to?: string }
  /** The page has the script that keeps it up to date; `refresh` to itself is then for browsers without JavaScript. */
  readonly isLive?: boolean
}

/** An HTML document, and what its Content-Security-Policy says beside what every page of the OP says. */
export interface PageContent {
  readonly html: string
  readonly policy: readonly string[]
}

/** Builds one of the OP's own pages: no external request, and no script but ours. */
export function builtInPage({ language, title, body, refresh, isLive = false }: BuiltInPage): PageContent {
  const meta = refresh && html`<meta http-equiv="refresh" content="${refreshing(refresh)}">`
  const document = html`<!doctype html>
<html lang="${language}">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
${isLive && refresh?.to === undefined && meta ? html`<noscript>${meta}</noscript>` : meta}
<title>${title}</title>
<style>${raw(style)}</style>
<main>${body}</main>
${isLive ? html`<script type="module">${raw(liveScript().text)}</script>` : undefined}
</html>
`
  return {
    html: document.html,
    policy: [
      "default-src 'none'",
      `style-src '${styleHash}'`,
      ...(isLive ? [`script-src '${liveScript().hash}'`, "connect-src 'self'"] : []),
      "require-trusted-types-for 'script'",
      "trusted-types 'none'",
    ],
  }
}

function refreshing({ after, to }: NonNullable<BuiltInPage['refresh']>): string {
  return to === undefined ? String(after) : `${after};url=${to}`
}

const hashOf = (text: string): string => `sha256-${createHash('sha256').update(text).digest('base64')}`
const styleHash = hashOf(style)

let live: { readonly text: string; readonly hash: string } | undefined

/** The script of pages that change by themselves (`src/browser/logout-page.ts`), as it is built. */
function liveScript(): { readonly text: string; readonly hash: string } {
  if (!live) {
    const file = createRequire(import.meta.url).resolve('#served/logout-page.js')
    const text = readFileSync(file, 'utf8').trim()
    live = { text, hash: hashOf(text) }
  }
  return live
}

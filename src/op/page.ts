import { createHash } from 'node:crypto'
import { type Html, html, raw } from '../runtime/html.ts'
import type { Answer } from './http.ts'

const style = `
:root { color-scheme: light dark; --ground: #f6f6f8; --card: #fff; --text: #1c1c22; --quiet: #5b5b66; --line: #dcdce3;
  --accent: #4f46e5; --on-accent: #fff; --told: #15803d; --waiting: #b45309; --failed: #b91c1c; --unknown: #6b7280; }
@media (prefers-color-scheme: dark) { :root { --ground: #121217; --card: #1c1c23; --text: #ececf1; --quiet: #a4a4b0;
  --line: #33333d; --accent: #a5b4fc; --on-accent: #14142b; --told: #4ade80; --waiting: #fbbf24; --failed: #f87171; --unknown: #9ca3af; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--text); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 36rem; margin: 12vh auto 4rem; padding: 32px; background: var(--card); border: 1px solid var(--line);
  border-radius: 12px; box-shadow: 0 8px 24px rgb(0 0 0 / 8%); }
@media (max-width: 40rem) { main { margin: 16px; padding: 24px; } }
h1 { margin: 0 0 8px; font-size: 1.5rem; line-height: 1.25; }
p { margin: 0 0 16px; } .quiet { color: var(--quiet); font-size: 0.9rem; }
ul { list-style: none; margin: 16px 0 24px; padding: 0; border-top: 1px solid var(--line); }
li { display: flex; justify-content: space-between; gap: 16px; padding: 12px 0; border-bottom: 1px solid var(--line); }
form.choice { display: grid; grid-template-columns: 1fr 1fr; gap: 16px; margin-top: 24px; }
@media (max-width: 30rem) { form.choice { grid-template-columns: 1fr; } }
button, a.button { display: block; width: 100%; padding: 12px 16px; border: 1px solid var(--accent); border-radius: 12px;
  background: var(--accent); color: var(--on-accent); font: inherit; font-weight: 600; text-align: center; text-decoration: none; cursor: pointer; }
form.choice button { background: transparent; color: var(--accent); }
a { color: var(--accent); } :focus-visible { outline: 3px solid var(--accent); outline-offset: 3px; }
.state { display: inline-flex; align-items: center; gap: 8px; white-space: nowrap; font-weight: 600; }
.told { color: var(--told); } .waiting { color: var(--accent); } .later { color: var(--waiting); } .failed { color: var(--failed); } .unknown { color: var(--unknown); }
svg { width: 20px; height: 20px; flex: none; }
@keyframes turn { to { transform: rotate(360deg); } }
.waiting svg { animation: turn 2s linear infinite; transform-origin: center; }
@media (prefers-reduced-motion: reduce) { .waiting svg { animation: none; } }
`

const styleHash = createHash('sha256').update(style).digest('base64')

/** What a page of the OP holds. */
export interface Page {
  readonly status: number
  readonly title: string
  readonly body: Html
  /** Seconds after which the page looks again by itself; it shows something that is still changing. */
  readonly refresh?: number
  /** The form's answer redirects to an app, and who knows where from there: browsers hold `form-action` against each hop. */
  readonly leadsAway?: boolean
}

/**
 * One of the OP's own pages: no script, no external request, never framed (Core §3.1.2.3, RFC 9700 §4.16), never cached.
 */
export function page({ status, title, body, refresh, leadsAway = false }: Page): Answer {
  const document = html`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
${refresh === undefined ? undefined : html`<meta http-equiv="refresh" content="${refresh}">`}
<title>${title}</title>
<style>${raw(style)}</style>
<main>${body}</main>
</html>
`
  return {
    status,
    headers: {
      'content-type': 'text/html; charset=utf-8',
      'content-security-policy': [
        "default-src 'none'",
        `style-src 'sha256-${styleHash}'`,
        ...(leadsAway ? [] : ["form-action 'self'"]),
        "frame-ancestors 'none'",
        "base-uri 'none'",
      ].join('; '),
      'x-frame-options': 'DENY',
      'referrer-policy': 'same-origin', // with no-referrer a form's POST would say `Origin: null`
      'x-content-type-options': 'nosniff',
      'cache-control': 'no-store',
    },
    body: document.html,
  }
}

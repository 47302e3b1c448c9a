import { type Html, html } from '../../runtime/html.ts'
import type { ReceiptApp } from '../logout/receipts.ts'
import type { Mark, Words } from './words.ts'

/** How an app's logout stands, in a mark and words: shape, word and colour, never colour alone. */
export interface State {
  readonly mark: Mark
  readonly says: string
}

/** Decides what is said about an app: no more than is known of it. */
export function stateOf({ state, attempts, nextTryAt, flag }: ReceiptApp, now: number, words: Words): State {
  const mark = markOf(state, attempts, flag)
  if (mark !== 'later') return { mark, says: words.marks[mark] }
  const wait = (nextTryAt ?? now) - now
  // Past its time: it is tried again as soon as there is a turn for it.
  return wait > 0 ? { mark, says: nextTry(wait, words) } : { mark: 'waiting', says: words.marks.waiting }
}

/** What is said about all of them: how many are known to be signed out. */
export function headingOf(apps: readonly ReceiptApp[], words: Words): string {
  const told = apps.filter(({ state, flag }) => markOf(state, 1, flag) === 'told').length
  return words.signedOut.heading(told, apps.length)
}

function markOf(state: ReceiptApp['state'], attempts: number, flag: ReceiptApp['flag']): Mark {
  switch (state) {
    case 'delivered':
      return flag === 'ended_nothing' ? 'nothing' : 'told'
    case 'due':
      return attempts > 0 ? 'later' : 'waiting'
    case 'in-flight':
      return 'waiting'
    default:
      return state
  }
}

function nextTry(ms: number, { nextTry: { seconds, minutes } }: Words): string {
  return ms < 120_000 ? seconds(Math.ceil(ms / 1000)) : minutes(Math.round(ms / 60_000))
}

const line = 'fill="none" stroke="currentColor" stroke-width="2"'
const shapes: Readonly<Record<Mark, string>> = {
  told: '<circle cx="10" cy="10" r="9" fill="currentColor"/><path d="M5.5 10.5l3 3 6-7" fill="none" stroke="var(--card)" stroke-width="2"/>',
  nothing: `<circle cx="10" cy="10" r="8" ${line}/><path d="M6 10h8" ${line}/>`,
  waiting: `<circle cx="10" cy="10" r="8" ${line} stroke-dasharray="38 12"/>`,
  later: `<circle cx="10" cy="10" r="8" ${line}/><path d="M10 5.5V10l3 2" ${line}/>`,
  refused: `<rect x="2" y="2" width="16" height="16" rx="2" ${line}/><path d="M6 10h8" ${line}/>`,
  dead: `<rect x="2" y="2" width="16" height="16" rx="2" ${line}/><path d="M6 6l8 8M14 6l-8 8" ${line}/>`,
  unknown: `<circle cx="10" cy="10" r="8" ${line} stroke-dasharray="3 3.28"/>`,
}

/** All shapes, once per page: a mark names one, and the page's script changes the name. */
const sprite: Html = {
  html: `<svg hidden>${Object.entries(shapes)
    .map(([mark, shape]) => `<symbol id="${mark}" viewBox="0 0 20 20">${shape}</symbol>`)
    .join('')}</svg>`,
}

/** The list of apps and how each stands. */
export function appList(apps: readonly ReceiptApp[], now: number, words: Words): Html {
  return html`${sprite}<ul aria-live="polite">${apps.map((app) => {
    const { mark, says } = stateOf(app, now, words)
    return html`<li><span>${app.app}</span><span class="state ${mark}"><svg aria-hidden="true"><use href="#${mark}"/></svg><span class="says">${says}</span></span></li>`
  })}</ul>`
}

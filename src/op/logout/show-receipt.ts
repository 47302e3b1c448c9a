import type { Runtime } from '../../runtime/runtime.ts'
import type { Answer, HttpRequest } from '../http.ts'
import { headingOf, stateOf } from '../pages/marks.ts'
import type { LogoutPages } from '../pages/pages.ts'
import { showPage } from '../pages/show.ts'
import { wordsFor } from '../pages/words.ts'
import { languagesFor, localesOf } from './logout-http.ts'
import { oneLinePerApp } from './one-line-per-app.ts'
import { RECEIPT_LIFETIME, type Receipt, type Receipts } from './receipts.ts'

/** What the signed-out page is made from. */
export interface ShowReceiptParts {
  readonly runtime: Pick<Runtime, 'now'>
  readonly receipts: Receipts
  readonly pages: Partial<LogoutPages>
  /** Where the End-User goes on. */
  readonly home: string
}

/** Logouts of one browser whose receipts are shown together, one as a rule: a cookie of 4,096 bytes holds their ids. */
const MOST = 100

/** The receipt of the logouts that a browser made at once. */
async function receiptOf(
  lastLogout: string,
  receipts: Receipts,
  now: number,
): Promise<Pick<Receipt, 'endedAt' | 'apps'> | undefined> {
  const ids = lastLogout.split(BETWEEN).slice(0, MOST)
  const found = await Promise.all(ids.map((id) => receipts.get(id)))
  const recent = found.filter((receipt) => receipt !== undefined && now < receipt.endedAt + RECEIPT_LIFETIME)
  const [first] = recent
  if (!first) return undefined
  return { endedAt: first.endedAt, apps: oneLinePerApp(recent.flatMap((receipt) => receipt?.apps ?? [])) }
}

/** Stands between ids of logouts in the cookie; none has it inside. */
const BETWEEN = '.'

/** What the cookie holds that lets a browser see how its logouts went. */
export function lastLogoutOf(logoutIds: readonly string[]): string | undefined {
  return logoutIds.length === 0 ? undefined : logoutIds.slice(0, MOST).join(BETWEEN)
}

/**
 * Shows the browser that made a logout how each app took it, as a page or, by `Accept`, as JSON, for ten minutes (T14).
 *
 * @param lastLogout The logouts this browser just made, from its short-lived cookie.
 */
export async function showReceipt(
  { runtime, receipts, pages, home }: ShowReceiptParts,
  request: HttpRequest,
  lastLogout: string | undefined,
): Promise<Answer> {
  const now = runtime.now()
  const receipt = lastLogout === undefined ? undefined : await receiptOf(lastLogout, receipts, now)
  const languages = languagesFor(request, localesOf(request))
  if (/\bapplication\/json\b/.test(request.header('accept') ?? '')) return asJson(receipt, languages, now)

  const apps = receipt?.apps ?? []
  // On the way from an app's site the Strict cookie stays at home; a page of ours that loads itself again brings it.
  const isOnTheWay = lastLogout === undefined && request.header('sec-fetch-site') === 'cross-site'
  return showPage(pages, 'signedOut', { languages, apps, again: isOnTheWay ? 0 : againAfter(apps, now), now, home })
}

/** The receipt for the browser: what its page shows, in the words of that page, and no handle of anything. */
function asJson(
  receipt: Pick<Receipt, 'endedAt' | 'apps'> | undefined,
  languages: readonly string[],
  now: number,
): Answer {
  const again = receipt && againAfter(receipt.apps, now)
  const words = wordsFor(languages)
  const body = receipt && {
    endedAt: receipt.endedAt,
    heading: headingOf(receipt.apps, words),
    ...(again !== undefined && { again }),
    apps: receipt.apps.map((each) => {
      const { clientId: _, ...app } = each
      return { ...app, ...stateOf(each, now, words) }
    }),
  }
  return {
    status: body ? 200 : 404,
    headers: {
      'content-type': 'application/json',
      'cache-control': 'no-store',
      vary: 'Accept, Accept-Language',
      'x-content-type-options': 'nosniff',
    },
    body: JSON.stringify(body ?? { error: 'not_found' }),
  }
}

/** Seconds until it is worth looking again; `undefined` when nothing changes any more. */
function againAfter(apps: Receipt['apps'], now: number): number | undefined {
  const open = apps.filter(({ state }) => state === 'due' || state === 'in-flight')
  if (open.length === 0) return undefined
  const next = Math.min(...open.map(({ nextTryAt = now }) => nextTryAt)) - now
  return Math.min(Math.max(2, Math.ceil(next / 1000)), 30)
}

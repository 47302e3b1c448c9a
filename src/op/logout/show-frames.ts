import type { Provider as OidcProvider } from 'oidc-provider'
import type { Runtime } from '../../runtime/runtime.ts'
import type { FindClient } from '../clients/find-client.ts'
import { frontchannelLogoutUriOf } from '../delivery/receiver.ts'
import { FRAMES_WAIT, type Framed, framesOf } from '../frontchannel.ts'
import type { Answer, HttpRequest } from '../http.ts'
import type { LogoutPages } from '../pages/pages.ts'
import { showPage } from '../pages/show.ts'
import { type PendingNotices, seal, unsealLate } from '../secrets/sealed-request.ts'
import type { OpIssuerStore } from '../store/contract.ts'
import { at, type LogoutPaths, languagesFor, localesOf, seeOther } from './logout-http.ts'
import { oneLinePerApp } from './one-line-per-app.ts'
import type { Receipt, Receipts } from './receipts.ts'

/** Milliseconds the redirect waits for first attempts: RPs are told first (RP-Initiated §2), but nobody waits for a dead one. */
const WAIT = 1000

/** What the page with frames is made from. */
export interface FramesParts {
  readonly provider: OidcProvider
  readonly store: Pick<OpIssuerStore, 'getLogout' | 'noteFramed'>
  readonly runtime: Pick<Runtime, 'now'>
  readonly receipts: Receipts
  /** Resolves when each RP of a logout was tried once, or after so many milliseconds. */
  readonly firstAttempts: (logoutId: string, ms: number) => Promise<void>
  /** What cannot be read now is not shown, and blocks nothing. */
  readonly findClient: FindClient
  readonly paths: LogoutPaths
  /** 256-bit key that seals what travels through the browser. */
  readonly sealingKey: Uint8Array
  /** Pages of the operator's. */
  readonly pages: Partial<LogoutPages>
}

/**
 * Where the browser goes after OP sessions ended: to `next`, by the page that waits while apps are told, and tells in frames
 * those that can only be told there. The wait is there and not here, since by then the browser has what this answer says of
 * its cookies: an answer that came a second late would take away those of a login made in that second. Its URL opens for a
 * minute, more or less by what the nodes' clocks differ; a cookie would not do, since on the way from an app's site a Strict
 * one stays home.
 */
export async function throughNotices(
  { paths, sealingKey, runtime }: Pick<FramesParts, 'paths' | 'sealingKey' | 'runtime'>,
  notices: PendingNotices,
  locales: string | undefined,
): Promise<string> {
  if (notices.logoutIds.length === 0) return notices.next
  return at(paths.frames, locales, await seal('notices', notices, sealingKey, runtime.now()))
}

/** Waits for the first attempts, shows exactly the apps of these logouts in frames, for a bounded time, and leads on (Front-Channel §3). */
export async function showFrames(parts: FramesParts, request: HttpRequest): Promise<Answer> {
  const { provider, store, runtime, receipts, paths, sealingKey, pages } = parts
  const locales = localesOf(request)
  const opened = await unsealLate('notices', request.query.get('request') ?? '', sealingKey, runtime.now())
  if (!opened) return seeOther(at(paths.signedOut, locales))
  const { logoutIds, inFrames, next } = opened.value
  if (opened.isLate) return seeOther(next) // too late for frames, but not for where the app wants its user
  await Promise.all(logoutIds.map((id) => parts.firstAttempts(id, WAIT)))
  if (!inFrames) return seeOther(next)
  const found = await Promise.all(logoutIds.map((id) => receipts.get(id)))
  const those = found.filter((receipt) => receipt !== undefined)
  const framed = await Promise.all(those.map((receipt) => framedOf(parts, receipt)))
  const { html, origins } = framesOf(framed.flat(), provider.issuer)
  if (origins.length === 0) return seeOther(next)
  if (request.method === 'GET') await Promise.all(those.map(({ logoutId }) => store.noteFramed(logoutId)))
  const data = {
    languages: languagesFor(request, locales),
    frames: html,
    apps: oneLinePerApp(those.flatMap(({ apps }) => apps)),
    next,
    wait: FRAMES_WAIT,
    now: runtime.now(),
  }
  return showPage(pages, 'telling', data, { frames: origins })
}

/** The apps of a logout that are told in frames, as they are registered now. */
async function framedOf(
  { findClient, store }: Pick<FramesParts, 'findClient' | 'store'>,
  { logoutId, apps }: Receipt,
): Promise<readonly Framed[]> {
  const found = await store.getLogout(logoutId)
  const framed = await Promise.all(
    (found?.frames ?? []).map(async ({ clientId, sid }) => {
      const client = await findClient(clientId)
      const uri = client && frontchannelLogoutUriOf(client)
      const app = apps.find((each) => each.clientId === clientId)?.app ?? clientId
      return uri === undefined ? undefined : { uri, sid, app }
    }),
  )
  return framed.filter((each) => each !== undefined)
}

import type { Provider as OidcProvider } from 'oidc-provider'
import type { Runtime } from '../../runtime/runtime.ts'
import type { FindClient } from '../clients/find-client.ts'
import { frontchannelLogoutUriOf } from '../delivery/receiver.ts'
import { FRAMES_WAIT, type Framed, framesOf } from '../frontchannel.ts'
import type { Answer, HttpRequest } from '../http.ts'
import type { LogoutPages } from '../pages/pages.ts'
import { showPage } from '../pages/show.ts'
import type { EndedOpSession, OpIssuerStore } from '../store/contract.ts'
import { at, type LogoutPaths, languagesFor, localesOf, seeOther } from './logout-http.ts'
import type { Receipt, Receipts } from './receipts.ts'
import { seal, unsealLate } from './sealed-request.ts'

/** What the page with frames is made from. */
export interface FramesParts {
  readonly provider: OidcProvider
  readonly store: Pick<OpIssuerStore, 'getLogout' | 'noteFramed'>
  readonly runtime: Pick<Runtime, 'now'>
  readonly receipts: Receipts
  /** What cannot be read now is not shown, and blocks nothing. */
  readonly findClient: FindClient
  readonly paths: LogoutPaths
  /** 256-bit key that seals what travels through the browser. */
  readonly sealingKey: Uint8Array
  /** Pages of the operator's. */
  readonly pages: Partial<LogoutPages>
}

/**
 * Where the browser goes after an OP session ended: to `next`, by the page with frames if there are apps that can only be
 * told there. Its URL opens for a minute, more or less by what the nodes' clocks differ; a cookie would not do, since on the way from an app's site a Strict one stays home.
 */
export async function throughFrames(
  { paths, sealingKey, runtime }: Pick<FramesParts, 'paths' | 'sealingKey' | 'runtime'>,
  ended: EndedOpSession | undefined,
  next: string,
  locales: string | undefined,
): Promise<string> {
  if (!ended || ended.frames.length === 0) return next
  const sealed = await seal('frames', { logoutId: ended.logout.id, next }, sealingKey, runtime.now())
  return at(paths.frames, locales, sealed)
}

/** Shows exactly the apps of one logout in frames, for a bounded time, and leads on (Front-Channel §3). */
export async function showFrames(parts: FramesParts, request: HttpRequest): Promise<Answer> {
  const { provider, store, runtime, receipts, paths, sealingKey, pages } = parts
  const locales = localesOf(request)
  const opened = await unsealLate('frames', request.query.get('request') ?? '', sealingKey, runtime.now())
  if (!opened) return seeOther(at(paths.signedOut, locales))
  const { value: pending, isLate } = opened
  const receipt = isLate ? undefined : await receipts.get(pending.logoutId)
  if (!receipt) return seeOther(pending.next) // too late for frames, but not for where the app wants its user
  const { html, origins } = framesOf(await framedOf(parts, receipt), provider.issuer)
  if (origins.length === 0) return seeOther(pending.next)
  if (request.method === 'GET') await store.noteFramed(receipt.logoutId)
  const data = {
    languages: languagesFor(request, locales),
    frames: html,
    apps: receipt.apps,
    next: pending.next,
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

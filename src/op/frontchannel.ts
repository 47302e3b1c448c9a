import { html } from '../runtime/html.ts'
import type { FrameNotice } from './store/contract.ts'

/** Seconds a page with frames waits for them at most: a browser may keep them from loading for ever. Our choice. */
export const FRAMES_WAIT = 3

/** An app that is to be shown in a frame. */
export interface Framed extends Pick<FrameNotice, 'sid'> {
  /** Its `frontchannel_logout_uri`. */
  readonly uri: string
  /** Its name for people. */
  readonly app: string
}

/**
 * The URL by which an RP is told in a frame: its URI as registered, an existing query kept, with `iss` and `sid`, always
 * both (Front-Channel §2).
 */
export function frontchannelLogoutUrl({ uri, sid }: Pick<Framed, 'uri' | 'sid'>, issuer: string): string {
  const joint = uri.includes('?') ? (/[?&]$/.test(uri) ? '' : '&') : '?'
  return `${uri}${joint}iss=${encodeURIComponent(issuer)}&sid=${encodeURIComponent(sid)}`
}

/**
 * The frames of a logout, ready for a page, and the origins that its Content-Security-Policy must list, and no others.
 *
 * A framed page can run its scripts and reach its own cookies where the browser allows that, and nothing else: it cannot
 * navigate the page, open a dialog or learn who else is being told (T15).
 *
 * @see {@link https://openid.net/specs/openid-connect-frontchannel-1_0.html#OPLogout | Front-Channel Logout 1.0 §3}
 */
export function framesOf(framed: readonly Framed[], issuer: string): { html: string; origins: readonly string[] } {
  const frames = framed.map(
    (each) =>
      html`<iframe src="${frontchannelLogoutUrl(each, issuer)}" title="${each.app}" sandbox="allow-scripts allow-same-origin" allow="" referrerpolicy="no-referrer" aria-hidden="true" tabindex="-1"></iframe>`,
  )
  return {
    html: html`${frames}`.html,
    origins: [...new Set(framed.map(({ uri }) => new URL(uri).origin))],
  }
}

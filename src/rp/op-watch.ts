import type { SilentCheckTrust } from '../protocol/session-document.ts'
import type { RpRequest } from './http.ts'

/**
 * What an RP session knows for watching the login at the OP. Stores keep it as one opaque text: both parts always change
 * together, and neither is looked for.
 */
export interface OpWatch {
  readonly sessionState?: string | undefined
  readonly silentCheck: SilentCheckTrust
}

/** As stores keep it: `session_state`, which has no spaces, a space, and how far prompt=none is to be trusted. */
export function packOpWatch({ sessionState = '', silentCheck }: OpWatch): string {
  return `${sessionState} ${silentCheck}`
}

export function readOpWatch(packed = ''): OpWatch {
  const [sessionState, silentCheck = 'unknown'] = packed.split(' ')
  return { sessionState: sessionState || undefined, silentCheck: silentCheck as SilentCheckTrust }
}

/**
 * What is known of prompt=none when a login has just come back. A login that never left the site of the app has shown
 * that the OP is of the same site, and no browser withholds cookies there, `SameSite=Lax` and `Strict` ones included.
 */
export function trustAfterLogin(request: Pick<RpRequest, 'header'>): SilentCheckTrust {
  return request.header('sec-fetch-site')?.startsWith('same-') ? 'works' : 'unknown'
}

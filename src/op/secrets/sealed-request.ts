import { EncryptJWT, errors, jwtDecrypt } from 'jose'
import { longestCookie } from '../longest-cookie.ts'
import type { LogoutProblem } from '../pages/pages.ts'

/** A logout request between the question and the answer, bound to the OP session that was asked. */
export interface PendingLogout {
  readonly uid: string
  /** The browser that was asked has lost the OP cookie: the hint alone names the OP session. */
  readonly isLost?: boolean
  readonly clientId?: string
  readonly postLogoutRedirectUri?: string
  readonly state?: string
}

/** Logouts that were made in this browser at once, whose RPs are being told, and where the browser goes then. */
export interface PendingNotices {
  readonly logoutIds: readonly string[]
  /** Whether there are apps that can only be told in frames of a page. */
  readonly inFrames: boolean
  readonly next: string
}

/** Why a request was refused, for the page that says so at a URL without the request. */
export interface Refusal {
  readonly problem: LogoutProblem
  readonly detail?: string
}

/** What travels sealed, by the page that it opens. */
interface Sealed {
  question: PendingLogout
  notices: PendingNotices
  refusal: Refusal
  /** What oidc-provider keeps in an OP session between the two requests of a user switch. */
  userSwitch: { readonly uid: string; readonly state: Record<string, unknown> }
  /** The uid of an OP session that was begun in the browser that has it. */
  login: string
}

/** Seconds the user has to answer, a page with frames may be loaded again, and a cookie lives. */
const LIFETIME: Readonly<Record<keyof Sealed, number>> = {
  question: 900,
  notices: 60,
  refusal: 900,
  userSwitch: 900,
  login: longestCookie,
}

/** Seconds by which the clocks of two nodes may differ. */
const SKEW = 60

const ENCRYPTION = { alg: 'dir', enc: 'A256GCM' } as const

/**
 * Seals what must get from one page to the next, so that it travels through the browser instead of a store: an anonymous
 * request stores nothing (T29), any number of tabs can ask at once, and only a page of this OP session holds a question
 * that opens (CSRF).
 */
export async function seal<Kind extends keyof Sealed>(
  kind: Kind,
  value: Sealed[Kind],
  key: Uint8Array,
  now: number,
): Promise<string> {
  return new EncryptJWT({ kind, value })
    .setProtectedHeader(ENCRYPTION)
    .setExpirationTime(Math.floor(now / 1000) + LIFETIME[kind])
    .encrypt(key)
}

/** Opens what {@link seal} made; `undefined` when it is forged, of another kind, of another OP or too old. */
export async function unseal<Kind extends keyof Sealed>(
  ...sealed: Parameters<typeof unsealLate<Kind>>
): Promise<Sealed[Kind] | undefined> {
  const opened = await unsealLate(...sealed)
  return opened?.isLate === false ? opened.value : undefined
}

/** As {@link unseal}, but what is too old is opened too, and said to be: it may still say where to go on. */
export async function unsealLate<Kind extends keyof Sealed>(
  kind: Kind,
  sealed: string,
  key: Uint8Array,
  now: number,
): Promise<{ readonly value: Sealed[Kind]; readonly isLate: boolean } | undefined> {
  try {
    const { payload } = await jwtDecrypt<{ kind: string; value: Sealed[Kind]; exp: number }>(sealed, key, {
      keyManagementAlgorithms: [ENCRYPTION.alg],
      contentEncryptionAlgorithms: [ENCRYPTION.enc],
      currentDate: new Date(0), // its age is judged below
    })
    if (payload.kind !== kind) return undefined
    return { value: payload.value, isLate: now / 1000 >= payload.exp + SKEW }
  } catch (error) {
    if (error instanceof errors.JOSEError) return undefined
    throw error
  }
}

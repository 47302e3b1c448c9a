/** The three answers of an OP iframe (Session §3.2). */
export type SessionStatus = 'unchanged' | 'changed' | 'error'

/** What goes into the hash of a `session_state` (Session §2). */
export interface SessionStateInput {
  readonly clientId: string
  /** Origin the Authentication Response goes to, as a browser's `MessageEvent.origin` spells it. */
  readonly origin: string
  /** The OP's readable browser state. */
  readonly browserState: string
  readonly salt: string
}

/** SHA-256 of UTF-8 text; an argument, since `protocol` runs where `crypto` may differ. */
export type Sha256 = (text: string) => Promise<Uint8Array<ArrayBuffer>>

/**
 * Computes a `session_state`: base64url(SHA-256(client_id SP origin SP browser-state SP salt)) "." salt.
 *
 * @see {@link https://openid.net/specs/openid-connect-session-1_0.html#CreatingUpdatingSessions | Session Management 1.0 §2}
 */
export async function computeSessionState(input: SessionStateInput, sha256: Sha256): Promise<string> {
  const hash = await sha256(`${input.clientId} ${input.origin} ${input.browserState} ${input.salt}`)
  return `${base64url(hash)}.${input.salt}`
}

/** Splits a poll message at its last space: a Client ID may contain spaces, a `session_state` may not (Session §3.1). */
export function parseStatusRequest(
  message: unknown,
): { clientId: string; sessionState: string; salt: string } | undefined {
  if (typeof message !== 'string' || message.length > 4096) return undefined
  const space = message.lastIndexOf(' ')
  const sessionState = message.slice(space + 1)
  const dot = sessionState.lastIndexOf('.')
  if (space < 1 || dot < 1 || dot === sessionState.length - 1) return undefined
  return { clientId: message.slice(0, space), sessionState, salt: sessionState.slice(dot + 1) }
}

/** Base64url without padding, from bytes. */
export function base64url(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes))
    .replaceAll('+', '-')
    .replaceAll('/', '_')
    .replaceAll('=', '')
}

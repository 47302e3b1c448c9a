import { computeSessionState, parseStatusRequest, type SessionStatus } from '../protocol/session-state.ts'

/** What the page at `check_session_iframe` knows and may do; the real one is put together in `served-op-iframe.ts`. */
export interface OpIframePage {
  readonly window: EventTarget
  /** How the framing page relates to the OP: the request's `Sec-Fetch-Site`, or `unknown` where there was none. */
  readonly site: string | undefined
  /** Name of the cookie that holds the browser state. */
  readonly cookieName: string
  /** All readable cookies; may throw where storage is blocked. */
  cookies(): string
  /** `document.hasStorageAccess()`; a browser that lacks it (Chromium before 119) throws, which answers `error`. */
  hasStorageAccess(): Promise<boolean>
  /** Asks the OP whether pages of this origin may speak for the client: 204 yes, 403 no. */
  askOp(body: string): Promise<{ readonly status: number }>
  sha256(text: string): Promise<Uint8Array<ArrayBuffer>>
}

/**
 * Answers the status requests of RP iframes with `unchanged`, `changed` or `error`.
 *
 * A cookie that is missing means that the browser withholds it, never that the End-User logged out: the OP does not
 * delete it. A cookie that does not match says `changed` only when it comes from the real cookie jar, not from the
 * partitioned one that a cross-site frame may be given. So a blocked cookie never signs anybody out.
 *
 * @see {@link https://openid.net/specs/openid-connect-session-1_0.html#OPiframe | Session Management 1.0 §3.2}
 */
export function answerStatusRequests(page: OpIframePage): void {
  const answers = new Map<string, Promise<{ readonly status: number }>>()

  page.window.addEventListener('message', (event) => {
    const { data, origin, source } = event as MessageEvent<unknown>
    // An opaque origin ("null") cannot be addressed, and extensions post objects to every window.
    if (typeof data !== 'string' || !source || source === page.window || origin === 'null') return
    void statusOf(data, origin)
      .catch((): SessionStatus => 'error')
      .then((status) => source.postMessage(status, { targetOrigin: origin }))
  })

  async function statusOf(data: string, origin: string): Promise<SessionStatus> {
    const request = parseStatusRequest(data)
    if (!request || !(await isExpected(request.clientId, origin))) return 'error'
    const browserState = readCookie(page.cookies(), page.cookieName)
    if (!browserState) return 'error'
    const input = { clientId: request.clientId, origin, browserState, salt: request.salt }
    if ((await computeSessionState(input, page.sha256)) === request.sessionState) return 'unchanged'
    if (page.site?.startsWith('same-')) return 'changed'
    return (await page.hasStorageAccess()) ? 'changed' : 'error'
  }

  /** Session §3.2 and §6: only pages of the client itself may ask. The OP is asked once, and again after a failure. */
  async function isExpected(clientId: string, origin: string): Promise<boolean> {
    const question = JSON.stringify({ client_id: clientId, origin })
    const answer = answers.get(question) ?? page.askOp(question).catch(() => ({ status: 0 }))
    answers.set(question, answer)
    const { status } = await answer
    if (status !== 204 && status !== 403) answers.delete(question)
    return status === 204
  }
}

function readCookie(cookies: string, name: string): string | undefined {
  return cookies
    .split('; ')
    .find((cookie) => cookie.startsWith(`${name}=`))
    ?.slice(name.length + 1)
}

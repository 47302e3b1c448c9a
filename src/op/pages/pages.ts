import type { ReceiptApp } from '../logout/receipts.ts'

/** What every page of the Logout Endpoint is given. */
export interface AnyPage {
  /** The languages this End-User asks for, best first: `ui_locales`, then the browser's. Not all may be supported. */
  readonly languages: readonly string[]
}

/** Asks whether to sign out. A form must POST `request` and `answer` (`yes` or `no`) to `action`. */
export interface ConfirmPage extends AnyPage {
  readonly action: string
  readonly request: string
  /**
   * The name of who is signed in; `undefined` where the browser has lost the OP cookie and an app's hint alone names the OP
   * session. Who has come by a hint learns neither the user nor the other apps, so `apps` is empty then (T14).
   */
  readonly account: string | undefined
  /** Names of the apps that would be signed out. */
  readonly apps: readonly string[]
  /** Name of the app that asks, where one does. */
  readonly askedBy: string | undefined
}

/** Says that nothing was ended, because the End-User said so. */
export interface StayedPage extends AnyPage {
  /** Where to go from here: the app that asked, by its `client_uri`, else the OP. */
  readonly next: string
  /** Name of that app; `undefined` when `next` is the OP. */
  readonly app: string | undefined
}

/** Shows apps in frames, so that they sign the End-User out, and moves on. */
export interface TellingPage extends AnyPage {
  /** The iframes, ready-made: sandboxed, without permissions and referrer. The page must hold them as they are. */
  readonly frames: string
  readonly apps: readonly ReceiptApp[]
  /** Where the page must lead by itself after at most `wait` seconds. */
  readonly next: string
  readonly wait: number
  /** Epoch milliseconds. */
  readonly now: number
}

/** Says how the logout went, app by app. */
export interface SignedOutPage extends AnyPage {
  /** Empty as well when this browser made no logout in the last ten minutes. */
  readonly apps: readonly ReceiptApp[]
  /** Seconds after which the page should look again; `undefined` when nothing changes any more. */
  readonly again: number | undefined
  /** Epoch milliseconds. */
  readonly now: number
  /** The OP. */
  readonly home: string
}

/** Why a page of the Logout Endpoint is an error page. */
export type LogoutProblem =
  /** The app's request is wrong (`detail` says how, for its developer). */
  | 'logout_request_invalid'
  | 'logout_request_too_large'
  | 'logout_answer_cross_origin'
  /** The question was asked more than 15 minutes ago, or never. */
  | 'logout_answer_invalid'
  /** Somebody signed in again since the question. */
  | 'logout_answer_outdated'
  /** Something failed at the OP, and nobody was signed out. */
  | 'server_error'
  /** The End-User is signed out; only what became of it cannot be shown. */
  | 'receipt_unavailable'

/** Says what went wrong. */
export interface LogoutErrorPage extends AnyPage {
  readonly problem: LogoutProblem
  readonly detail: string | undefined
  /** The Logout Endpoint: a GET without parameters asks whether to sign out all the same (RP-Initiated §4). */
  readonly logoutEndpoint: string
  readonly home: string
}

/** The data of each page. */
export interface PageData {
  confirm: ConfirmPage
  stayed: StayedPage
  telling: TellingPage
  signedOut: SignedOutPage
  error: LogoutErrorPage
}

/**
 * The pages of the Logout Endpoint, as functions from data to an HTML document.
 *
 * Whatever they return is sent with `no-store` and a policy against framing; the rest of its Content-Security-Policy is
 * the page's own, by `<meta http-equiv>`. Names come from apps and users: escape them.
 */
export type LogoutPages = { readonly [Name in keyof PageData]: (data: PageData[Name]) => string | Promise<string> }

/** The names of the pages. */
export const PAGE_NAMES: readonly (keyof PageData)[] = ['confirm', 'stayed', 'telling', 'signedOut', 'error']

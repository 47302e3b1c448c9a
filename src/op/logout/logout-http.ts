import type { Answer, HttpRequest } from '../http.ts'
import { languagesOf } from '../pages/words.ts'

/** Where the Logout Endpoint's pages live: absolute paths as a browser sees them, mount path included. */
export interface LogoutPaths {
  readonly endpoint: string
  readonly ask: string
  readonly frames: string
  readonly refused: string
  readonly signedOut: string
}

/** The End-User's languages as the app named them (`ui_locales`); they go from page to page in the URL. */
export function localesOf({ query }: HttpRequest): string | undefined {
  return query.get('ui_locales') ?? undefined
}

/** The languages to speak to this End-User in, best first. */
export function languagesFor(request: HttpRequest, locales: string | undefined): readonly string[] {
  return languagesOf(locales, request.header('accept-language'))
}

/** The URL of one of our pages, with what it is to be given. */
export function at(path: string, locales: string | undefined, sealed?: string): string {
  const query = new URLSearchParams({
    ...(sealed === undefined ? {} : { request: sealed }),
    ...(locales === undefined || locales === '' ? {} : { ui_locales: locales.slice(0, 100) }),
  }).toString()
  return query === '' ? path : `${path}?${query}`
}

/** Sends the browser on; of a registered URI only what a header cannot hold is encoded, as browsers do it too. */
export function seeOther(uri: string): Answer {
  const location = uri.replaceAll(/[^!-~]+/g, (part) => encodeURI(part.toWellFormed()))
  return { status: 303, headers: { location, 'cache-control': 'no-store', 'referrer-policy': 'no-referrer' }, body: '' }
}

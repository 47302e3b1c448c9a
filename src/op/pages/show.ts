import type { Answer } from '../http.ts'
import { builtIn } from './built-in.ts'
import type { PageContent } from './page.ts'
import type { LogoutPages, PageData } from './pages.ts'
import { wordsFor } from './words.ts'

/** How a page is sent. */
export interface Sending {
  readonly status?: number
  /** The form's answer redirects to an app, and who knows where from there: browsers hold `form-action` against each hop. */
  readonly leadsAway?: boolean
  /** Origins that the page may frame. */
  readonly frames?: readonly string[]
}

/** Shows the operator's page of that name, else the built-in one. */
export async function showPage<Name extends keyof PageData>(
  pages: Partial<LogoutPages>,
  name: Name,
  data: PageData[Name],
  sending: Sending = {},
): Promise<Answer> {
  const theirs: LogoutPages[Name] | undefined = pages[name]
  const content: PageContent = theirs
    ? { html: await theirs(data), policy: [] }
    : builtIn[name](data, wordsFor(data.languages))
  return pageAnswer(content, sending)
}

/** One of the OP's pages as an answer: never framed (Core §3.1.2.3, RFC 9700 §4.16), never cached. */
export function pageAnswer(
  { html, policy }: PageContent,
  { status = 200, leadsAway = false, frames }: Sending,
): Answer {
  return {
    status,
    headers: {
      'content-type': 'text/html; charset=utf-8',
      'content-security-policy': [
        ...policy,
        ...(leadsAway ? [] : ["form-action 'self'"]),
        ...(frames ? [`frame-src ${frames.join(' ')}`] : []),
        "frame-ancestors 'none'",
        "base-uri 'none'",
      ].join('; '),
      'x-frame-options': 'DENY',
      // With no-referrer a form's POST would say `Origin: null`; a page with frames has no form.
      'referrer-policy': frames ? 'no-referrer' : 'same-origin',
      'x-content-type-options': 'nosniff',
      'cache-control': 'no-store',
    },
    body: html,
  }
}

import type { Html } from '../../runtime/html.ts'
import type { LogoutProblem } from './pages.ts'
import { de } from './words-de.ts'
import { en } from './words-en.ts'
import { fr } from './words-fr.ts'

/** How the logout of one app stands, as a page shows it. */
export type Mark = 'told' | 'nothing' | 'waiting' | 'later' | 'refused' | 'dead' | 'unknown'

/** What the built-in pages say, in one language. */
export interface Words {
  /** BCP 47. */
  readonly language: string
  readonly goOn: string
  readonly confirm: {
    readonly title: string
    readonly heading: string
    readonly asks: (app: string) => string
    readonly signedInAs: (account: Html) => Html
    /** In place of account and apps, where the browser has lost the OP cookie. */
    readonly lost: string
    readonly apps: string
    readonly noApps: string
    readonly yes: string
    readonly no: string
  }
  readonly stayed: {
    readonly title: string
    readonly heading: string
    readonly text: string
    readonly backTo: (app: string) => string
  }
  readonly telling: { readonly title: string; readonly heading: string; readonly text: string }
  readonly signedOut: {
    readonly title: string
    /** `told` of `all` apps are known to be signed out. */
    readonly heading: (told: number, all: number) => string
    readonly safe: string
    readonly goesOn: string
    /** What to do about apps of which nothing is known. */
    readonly unknown: string
  }
  readonly marks: Readonly<Record<Exclude<Mark, 'later'>, string>>
  readonly nextTry: { readonly seconds: (n: number) => string; readonly minutes: (n: number) => string }
  readonly error: {
    readonly title: string
    readonly heading: string
    readonly unchanged: string
    /** Instead of `heading` and `unchanged`, when our side failed and the logout may have gone through or not. */
    readonly uncertain: { readonly heading: string; readonly text: string }
    readonly again: string
    readonly code: string
    readonly problems: Readonly<Record<LogoutProblem, string>>
  }
  /** An app asked for a prompt that the OP does not support (Prompt Create §4.1). */
  readonly refusedPrompt: { readonly title: string; readonly heading: string; readonly text: string }
  /** A login failed on the side of the OP. */
  readonly failed: { readonly title: string; readonly heading: string; readonly text: string }
}

const tables: ReadonlyMap<string, Words> = new Map([en, fr, de].map((words) => [words.language, words]))

/** The words in the first language that there are words for, else in English (RP-Initiated §2: never an error). */
export function wordsFor(languages: readonly string[]): Words {
  for (const language of languages) {
    const words = tables.get(language.split('-')[0]?.toLowerCase() ?? '')
    if (words) return words
  }
  return en
}

/** The languages of a request, best first: `ui_locales`, in its order, then the browser's `Accept-Language` by quality. */
export function languagesOf(uiLocales: string | undefined, acceptLanguage: string | undefined): readonly string[] {
  const asked = (uiLocales ?? '').split(' ')
  const browsers = (acceptLanguage ?? '')
    .split(',')
    .map((range) => {
      const [tag = '', ...parameters] = range.split(';').map((part) => part.trim())
      const quality = parameters.find((parameter) => parameter.startsWith('q='))?.slice(2)
      return { tag, quality: quality === undefined ? 1 : Number(quality) }
    })
    .filter(({ quality }) => quality > 0)
    .sort((a, b) => b.quality - a.quality)
    .map(({ tag }) => tag)
  return [...asked, ...browsers].filter((tag) => /^[a-z]{2,8}(-[a-z\d]{1,8})*$/i.test(tag)).slice(0, 20)
}

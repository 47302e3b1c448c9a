import { type Configuration, errors, type KoaContextWithOIDC } from 'oidc-provider'
import { html } from '../runtime/html.ts'
import { toKoa } from './http.ts'
import { builtInPage } from './pages/page.ts'
import { pageAnswer } from './pages/show.ts'
import { languagesOf, type Words, wordsFor } from './pages/words.ts'

/** An error as a page of the OP says it: by OAuth's code, a sentence for developers, and words for people. */
export interface ShownError {
  readonly status: 400 | 500
  readonly error: 'invalid_request' | 'server_error'
  readonly error_description: string
  readonly words: keyof Pick<Words, 'refusedPrompt' | 'failed'>
}

/** Shows an error by the operator's error page, else by one of ours, in place of whatever was answered; cookies stay. */
export async function showError(
  ctx: KoaContextWithOIDC,
  { status, words, ...out }: ShownError,
  { renderError }: Configuration,
): Promise<void> {
  ctx.remove('location')
  if (renderError) {
    ctx.status = status
    await renderError(ctx, out, new errors.CustomOIDCProviderError(out.error, out.error_description))
    return
  }
  const { ui_locales: locales } = ctx.oidc.params ?? {}
  const asked = typeof locales === 'string' ? locales : undefined
  const { language, [words]: said } = wordsFor(languagesOf(asked, ctx.get('accept-language')))
  const content = builtInPage({
    language,
    title: said.title,
    body: html`<h1>${said.heading}</h1><p>${said.text}</p>
<p class="quiet">${out.error}: ${out.error_description}</p>`,
  })
  toKoa(ctx, pageAnswer(content, { status }))
}

/** What failed inside, as the browser hears of it: nothing of the cause. */
const FAILED: ShownError = {
  status: 500,
  error: 'server_error',
  error_description: 'the request failed on the side of the OP',
  words: 'failed',
}

/** Shows that our side failed; the operator's own page may be what fails next. `tell` hears of each failure. */
export async function showFailure(
  ctx: KoaContextWithOIDC,
  error: unknown,
  { renderError }: Configuration,
  tell: (error: Error) => void,
): Promise<void> {
  tell(error instanceof Error ? error : new Error(String(error)))
  try {
    await showError(ctx, FAILED, { renderError })
  } catch (another) {
    if (!renderError) throw another
    await showFailure(ctx, another, {}, tell)
  }
}

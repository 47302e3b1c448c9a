import type { Provider } from 'lockstep/op'
import type { Configuration, ErrorOut, KoaContextWithOIDC } from 'oidc-provider'
import type { Log } from './log.ts'
import { newErrorCode, notFound, PAGE_HEADERS, renderError, type Site } from './pages.ts'

/** The page for whoever meets an error of oidc-provider's in a browser; an app that sent them gets the protocol's answer. */
export function errorRenderer(site: Site, log: Log): NonNullable<Configuration['renderError']> {
  return async (ctx, out) => {
    const code = newErrorCode()
    const view = ctx.status === 404 ? notFound : ctx.status >= 500 ? failedHere : wrongRequest(out)
    log(ctx.status >= 500 ? 'error' : 'warn', 'error_page', {
      code,
      status: ctx.status,
      error: out.error,
      path: ctx.path,
    })
    ctx.set(PAGE_HEADERS)
    ctx.body = String(await renderError(site, view, code))
  }
}

const failedHere = {
  title: 'Something failed on our side',
  happened: 'The request could not be answered.',
  lost: 'Nothing was lost.',
  todo: 'Go back to the app and try again in a moment.',
}

function wrongRequest({ error, error_description }: ErrorOut) {
  const detail = [error, error_description]
    .filter((text) => text !== undefined)
    .join(': ')
    .slice(0, 200)
  return {
    title: 'That did not work',
    happened: 'An app sent a request that this sign-in service cannot answer.',
    lost: 'Nothing was lost.',
    todo: 'Go back to the app and try again.',
    detail,
  }
}

/** Shows people a page where oidc-provider has no route. */
export function answerNotFound(op: Provider, site: Site): void {
  op.use(async (ctx, next) => {
    await next()
    if (ctx.status !== 404 || ctx.body || ctx.accepts('json', 'html') !== 'html') return
    ctx.body = String(await renderError(site, notFound, 'not_found'))
    ctx.status = 404
    ctx.set(PAGE_HEADERS)
  })
}

/** Answers 413 where oidc-provider says 400 for a body it stopped reading. */
export function answerTooLarge(op: Provider): void {
  const judge = (ctx: KoaContextWithOIDC, error: Error): void => {
    if (error.cause instanceof Error && error.cause.message === 'request entity too large') ctx.status = 413
  }
  op.on('authorization.error', judge)
  op.on('grant.error', judge)
  op.on('introspection.error', judge)
  op.on('revocation.error', judge)
  op.on('userinfo.error', judge)
}

import { readFileSync } from 'node:fs'
import type { IncomingMessage, RequestListener } from 'node:http'
import { getRequestListener, type HttpBindings } from '@hono/node-server'
import { Hono } from 'hono'
import { gateOf } from './gate.ts'
import { type HomeParts, homeRoutes } from './home.ts'
import { placeOf } from './log.ts'
import { type LoginParts, loginRoutes } from './login.ts'
import { answerPage, newErrorCode, notFound, renderError } from './pages.ts'
import { loginThrottle } from './throttle.ts'

/** What the pages of this server need. */
export type ListenerParts = Omit<LoginParts, 'offered' | 'throttle'> & HomeParts

/** Answers every request: our own pages are hono's, everything else below the issuer is oidc-provider's. */
export function requestListener(parts: ListenerParts): RequestListener {
  const admits = gateOf(parts.config)
  // hono would otherwise replace Request and Response for everybody in this process
  const pages = getRequestListener(pageRoutes(parts).fetch, { overrideGlobalObjects: false })
  const provider = parts.op.callback()
  return (req, res) => {
    const asked = req.url
    if (!admits(req, res)) return
    const answered = isOwn(req) ? pages(req, res) : provider(Object.assign(req, { originalUrl: asked }), res)
    answered.catch((error: Error) => {
      parts.log('error', 'server_error', { message: error.message, at: placeOf(error) })
      res.destroy()
    })
  }
}

function isOwn(req: IncomingMessage): boolean {
  const path = req.url?.split('?', 1)[0] ?? ''
  return path === '/' || path.startsWith('/interaction/') || path.startsWith('/assets/')
}

function pageRoutes(parts: ListenerParts): Hono<{ Bindings: HttpBindings }> {
  const { config, site, log } = parts
  const app = new Hono<{ Bindings: HttpBindings }>()
  app.route('/', loginRoutes({ ...parts, offered: config.demo ? config.accounts : [], throttle: loginThrottle() }))
  app.route('/', homeRoutes(parts))
  app.route('/', assetRoutes())
  app.notFound((c) => answerPage(c, 404, renderError(site, notFound, 'not_found')))
  app.onError((error, c) => {
    const code = newErrorCode()
    log('error', 'server_error', { code, message: error.message, at: placeOf(error) })
    const view = {
      title: 'Something failed on our side',
      happened: 'This page could not be made.',
      lost: 'Nothing was lost.',
      todo: 'Try again in a moment.',
    }
    return answerPage(c, 500, renderError(site, view, code))
  })
  return app
}

function assetRoutes(): Hono<{ Bindings: HttpBindings }> {
  const routes = new Hono<{ Bindings: HttpBindings }>()
  const types = { 'style.css': 'text/css', 'login.js': 'text/javascript', 'mark.svg': 'image/svg+xml' }
  for (const [name, type] of Object.entries(types)) {
    const content = readFileSync(new URL(`./assets/${name}`, import.meta.url), 'utf8')
    routes.get(`/assets/${name}`, (c) =>
      c.body(content, 200, {
        'content-type': `${type}; charset=utf-8`,
        'cache-control': 'public, max-age=300',
        'x-content-type-options': 'nosniff',
      }),
    )
  }
  return routes
}

import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import express, { type ErrorRequestHandler, type Express, type RequestHandler, type Response } from 'express'
import { LockstepError } from 'lockstep'
import { createRelyingParty, type RpStore } from 'lockstep/rp'
import { auth, requireLogin } from 'lockstep/rp/express'
import { sqliteStore } from 'lockstep/rp/sqlite'
import { type DemoOptions, UsageError } from './arguments.ts'
import { hostCheck } from './host-check.ts'
import type { Log } from './log.ts'
import type { Page } from './pages/layout.ts'
import { appPage, problemPage, signedOutPage, welcomePage } from './pages/pages.ts'

const PREFIX = '/auth'

const good: ReadonlySet<string> = new Set(['logout_received', 'op_reachable'])

/** An app that runs on an RP of Lockstep's. */
export interface DemoAppInstance {
  readonly appUrl: string
  readonly express: Express
  close(): Promise<void>
}

/**
 * Builds one demo app: login and logout are the library's, the rest is four pages.
 *
 * @throws UsageError when the options lead nowhere
 */
export function buildDemoApp({ app, port, issuer, dataFolder }: DemoOptions, log: Log): DemoAppInstance {
  const appUrl = `http://${app.id}.localhost:${port}`
  const store = openStore(dataFolder, app.id)
  const rp = createRelyingParty({
    issuer,
    clientId: app.id,
    clientSecret: `demo-secret-of-${app.id}`, // worthless anywhere else: the demo's OP starts on loopback only (T22)
    appUrl,
    prefix: PREFIX,
    store,
    mapSession: (claims) => ({ name: claims.name ?? claims.sub }),
    log: ({ event, ...fields }) => log(good.has(event) ? 'info' : 'warn', event, fields),
  })

  const server = express()
  server.disable('x-powered-by')
  server.use(hostCheck({ appUrl, backchannelPath: `${PREFIX}/backchannel-logout` }))
  server.use(auth(rp))
  server.use('/assets', express.static(fileURLToPath(new URL('./assets', import.meta.url)), { maxAge: 300_000 }))
  server.use(pageHeaders(issuer))
  server.get('/', async (req, res, next) => {
    if (req.rpSession) next()
    else await send(res, 200, welcomePage(app, { issuer, prefix: PREFIX, end: req.rpSessionEnd }))
  })
  server.get('/', requireLogin(rp), async (req, res) => {
    await send(res, 200, appPage(app, { sub: req.rpSession.sub, name: req.rpSession.data.name, prefix: PREFIX }))
  })
  server.get('/signed-out', async (req, res) => {
    if (req.rpSession) res.redirect(303, '/')
    else await send(res, 200, signedOutPage(app, { prefix: PREFIX, onlyHere: req.query.only !== undefined }))
  })
  server.use(async (_req, res) => {
    const view = {
      title: 'There is nothing here',
      happened: 'This address does not lead to a page.',
      todo: 'Nothing was lost.',
    }
    await send(res, 404, problemPage(app, { ...view, link: { href: '/', text: `Back to ${app.name}` } }))
  })
  server.use(failure(app, log))

  return {
    appUrl,
    express: server,
    async close() {
      await rp.close()
      await store.close()
    },
  }
}

function openStore(folder: string, name: string): RpStore {
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 })
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? cause.code : cause
    throw new UsageError(`The data folder ${folder} cannot be made (${code}). Choose another with --data.`, { cause })
  }
  const file = join(folder, `${name}.db`)
  try {
    return sqliteStore(file)
  } catch (cause) {
    if (!(cause instanceof LockstepError)) throw cause
    const what = `The file ${file} cannot be used: ${cause.message}.`
    throw new UsageError(`${what} Choose another folder with --data.`, { cause })
  }
}

/** Only what this app itself serves, and the OP's iframe. */
function pageHeaders(issuer: string): RequestHandler {
  const policy = [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    "connect-src 'self'",
    `frame-src 'self' ${new URL(issuer).origin}`,
    "base-uri 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
  ].join('; ')
  return (_req, res, next) => {
    res.set({
      'content-security-policy': policy,
      'x-content-type-options': 'nosniff',
      'referrer-policy': 'same-origin',
      'cache-control': 'no-store',
    })
    next()
  }
}

function failure(app: DemoOptions['app'], log: Log): ErrorRequestHandler {
  return async (error: unknown, _req, res, next) => {
    log('error', 'page_failed', { message: error instanceof Error ? error.message : String(error) })
    if (res.headersSent) {
      next(error)
      return
    }
    const view = { title: 'Something failed on our side', happened: 'This page could not be made; nothing was lost.' }
    await send(
      res,
      500,
      problemPage(app, { ...view, todo: 'Try again in a moment.', link: { href: '/', text: 'Try again' } }),
    )
  }
}

async function send(res: Response, status: number, page: Page): Promise<void> {
  res
    .status(status)
    .type('html')
    .send(String(await page))
}

import { createHmac, timingSafeEqual } from 'node:crypto'
import type { HttpBindings } from '@hono/node-server'
import { type Context, Hono } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import { isSameOrigin, type Provider } from 'lockstep/op'
import { errors } from 'oidc-provider'
import type { Accounts } from './accounts.ts'
import { type ConfiguredAccount, subjectOf } from './config.ts'
import { addressOf } from './gate.ts'
import type { Log } from './log.ts'
import { type LoginView, loginPage } from './pages/login-page.ts'
import { answerPage, newErrorCode, render, renderError, type Site } from './pages.ts'
import type { LoginThrottle } from './throttle.ts'

type Env = { Bindings: HttpBindings }

/** What the login needs. */
export interface LoginParts {
  readonly op: Provider
  readonly site: Site
  readonly accounts: Accounts
  /** Accounts the page offers; only the demo has any. */
  readonly offered: readonly ConfiguredAccount[]
  readonly throttle: LoginThrottle
  /** Binds a form to its interaction. */
  readonly csrfKey: string
  readonly log: Log
}

type Interaction = Awaited<ReturnType<Provider['interactionDetails']>>

/** The login page at `/interaction/:uid`, where oidc-provider sends whoever has to sign in. */
export function loginRoutes(parts: LoginParts): Hono<Env> {
  const { op, site, accounts, throttle, log } = parts
  const routes = new Hono<Env>()

  routes.get('/interaction/:uid', async (c) => {
    const interaction = await current(c)
    if (!interaction) return expired(c)
    // Only `prompt=consent` asks for consent: configured clients are first-party, so it is given without a page.
    if (interaction.prompt.name === 'consent') return finish(c, { consent: {} })
    const chosen = parts.offered.find((account) => account.username === c.req.query('account'))
    const hint = interaction.params.login_hint
    const username = chosen?.username ?? (typeof hint === 'string' ? hint.slice(0, 200) : '')
    return form(c, 200, interaction, { username, password: chosen?.password ?? '' })
  })

  routes.post(
    '/interaction/:uid',
    bodyLimit({
      maxSize: 8192,
      onError: (c) => problem(c, 413, 'The form was too large', 'The sign-in form held too much.'),
    }),
    async (c) => {
      if (!isSameOrigin(c.env.incoming.headers, site.issuer))
        return problem(c, 403, 'That did not come from this page', 'The sign-in came from another page.')
      const interaction = await current(c)
      if (!interaction) return expired(c)
      const fields = await c.req.parseBody()
      const { csrf, username, password } = {
        csrf: textOf(fields.csrf),
        username: textOf(fields.username),
        password: textOf(fields.password),
      }
      if (!sameText(csrf, csrfToken(interaction.uid))) {
        return problem(c, 403, 'That did not come from this page', 'The sign-in form was not the one this page made.')
      }
      const address = addressOf(c.env.incoming)
      const wait = throttle.wait(username, address)
      if (wait > 0) {
        c.header('retry-after', String(wait))
        const minutes = Math.ceil(wait / 60)
        const again = `Too many wrong passwords. Try again in ${minutes === 1 ? 'a minute' : `${minutes} minutes`}.`
        return form(c, 429, interaction, { username, password: '', problem: again })
      }
      const account = accounts.verify(username, password)
      if (!account) {
        throttle.failed(username, address)
        log('warn', 'login_refused', { client_id: textOf(interaction.params.client_id) })
        return form(c, 422, interaction, {
          username,
          password: '',
          problem: 'That username and password do not match.',
        })
      }
      throttle.succeeded(username, address)
      return finish(c, { login: { accountId: String(subjectOf(account)) } })
    },
  )

  /** The interaction of this browser, if the page it is on belongs to it. */
  async function current(c: Context<Env>): Promise<Interaction | undefined> {
    try {
      const interaction = await op.interactionDetails(c.env.incoming, c.env.outgoing)
      return interaction.uid === c.req.param('uid') ? interaction : undefined
    } catch (error) {
      if (error instanceof errors.SessionNotFound) return undefined
      throw error
    }
  }

  async function finish(c: Context<Env>, result: Parameters<Provider['interactionResult']>[2]): Promise<Response> {
    const returnTo = await op.interactionResult(c.env.incoming, c.env.outgoing, result)
    c.header('cache-control', 'no-store')
    return c.redirect(returnTo, 303)
  }

  async function form(
    c: Context<Env>,
    status: 200 | 422 | 429,
    interaction: Interaction,
    view: Pick<LoginView, 'username' | 'password' | 'problem'>,
  ): Promise<Response> {
    const client = await op.Client.find(textOf(interaction.params.client_id))
    const app = client?.clientName ?? client?.clientId ?? 'the app'
    const page = loginPage({ app, csrf: csrfToken(interaction.uid), accounts: parts.offered, ...view })
    const title = view.problem === undefined ? `Sign in to ${app}` : `Problem: sign in to ${app}`
    return answerPage(c, status, render(site, title, page, parts.offered.length > 0 ? 'login.js' : undefined))
  }

  function expired(c: Context<Env>): Response | Promise<Response> {
    return problem(
      c,
      400,
      'This sign-in is over',
      'It was finished already, or it waited for too long, or the browser keeps no cookies.',
    )
  }

  function problem(c: Context, status: 400 | 403 | 413, title: string, happened: string): Response | Promise<Response> {
    const code = newErrorCode()
    log('warn', 'login_problem', { code, status, title })
    const todo = 'Go back to the app and sign in again.'
    return answerPage(c, status, renderError(site, { title, happened, lost: 'Nothing was lost.', todo }, code))
  }

  function csrfToken(uid: string): string {
    return createHmac('sha256', parts.csrfKey).update(`login form of ${uid}`).digest('base64url')
  }

  return routes
}

function textOf(field: unknown): string {
  return typeof field === 'string' ? field : ''
}

function sameText(given: string, expected: string): boolean {
  const [a, b] = [Buffer.from(given), Buffer.from(expected)]
  return a.length === b.length && timingSafeEqual(a, b)
}

import { type AuthorizationAnswer, answerOn } from '../../test/support/op-flow.ts'
import type { RpSite } from '../../test/support/rp-site.ts'
import type { Page, UserAgent } from '../../test/support/user-agent.ts'
import type { OpUnderTest } from './server-program.ts'

/** A client of the OP under test. */
export type App = ReturnType<RpSite['client']>

/** What the token endpoint gave. */
export interface Tokens {
  readonly id_token: string
  readonly access_token: string
  readonly refresh_token?: string
}

/** A login that came back. */
export interface Login extends AuthorizationAnswer {
  readonly tokens: Tokens
}

/** 128 characters, as the conformance suite sends it. */
export const longState: string = 'a1'.repeat(64)

/** Letters, digits and every punctuation character a query can hold escaped, as the suite builds its logout state. */
export const wildState: string = ['Abcdefghij'.repeat(5), '0123456789', '!"#$%&\'()*,-./:<=>?@[\\]^_`{|}~'].join('')

const accounts: Readonly<Record<string, string>> = { ada: 'analytical', grace: 'nanosecond' }

/** Sends the browser to the OP and back, signing in as `user` where the OP asks. */
export async function authorize(
  browser: UserAgent,
  { metadata }: OpUnderTest,
  app: App,
  { user = 'ada', ...params }: Readonly<Record<string, string>> = {},
): Promise<AuthorizationAnswer> {
  const query = new URLSearchParams({
    client_id: app.client_id,
    response_type: 'code',
    scope: 'openid',
    redirect_uri: app.redirect_uris?.[0] ?? '',
    state: longState,
    nonce: 'n-0S6',
    ...params,
  })
  let page = await browser.open(`${metadata.authorization_endpoint}?${query}`)
  if (new URL(page.url).origin === new URL(metadata.issuer).origin && page.body.includes('name="password"')) {
    page = await browser.submit(page, { username: user, password: accounts[user] ?? '' })
  }
  return answerOn(page)
}

/** Asks the token endpoint with client_secret_post. */
export async function askForTokens(
  { metadata }: OpUnderTest,
  app: App,
  params: Readonly<Record<string, string>>,
): Promise<{ status: number; body: Record<string, unknown> }> {
  const body = new URLSearchParams({ client_id: app.client_id, client_secret: app.client_secret, ...params })
  const response = await fetch(metadata.token_endpoint, { method: 'POST', body })
  return { status: response.status, body: (await response.json()) as Record<string, unknown> }
}

/** A whole login: the browser's way and the RP's. */
export async function logIn(
  browser: UserAgent,
  op: OpUnderTest,
  app: App,
  params: Readonly<Record<string, string>> = {},
): Promise<Login> {
  const answer = await authorize(browser, op, app, params)
  const redirect_uri = app.redirect_uris?.[0] ?? ''
  const { status, body } = await askForTokens(op, app, {
    grant_type: 'authorization_code',
    code: answer.code,
    redirect_uri,
  })
  if (status !== 200) throw new Error(`the token endpoint answered ${status}: ${JSON.stringify(body)}`)
  return Object.assign(answer, { tokens: body as Record<string, unknown> & Tokens })
}

/** The URL of a logout request: parameters join whatever query the endpoint has. */
export function logoutUrl({ metadata }: OpUnderTest, params: Readonly<Record<string, string>> = {}): string {
  const url = new URL(metadata.end_session_endpoint)
  for (const [name, value] of Object.entries(params)) url.searchParams.append(name, value)
  return url.href
}

/** Agrees to a logout where the OP asks. */
export async function confirmed(browser: UserAgent, page: Page): Promise<Page> {
  return page.body.includes('value="yes"') ? browser.submit(page, { answer: 'yes' }) : page
}

/** What a prompt=none request is answered. */
export async function silently(
  browser: UserAgent,
  op: OpUnderTest,
  app: App,
  params: Readonly<Record<string, string>> = {},
): Promise<URLSearchParams> {
  return (await authorize(browser, op, app, { prompt: 'none', ...params })).params
}

import { createHash, randomBytes } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { CompactEncrypt, type CryptoKey, exportJWK, generateKeyPair, SignJWT } from 'jose'

/** The one client of a scripted OP: an RP under test, known by what it registered. */
export interface RegisteredRp {
  readonly clientId: string
  readonly clientSecret: string
  readonly redirectUri: string
  readonly postLogoutRedirectUri: string
  readonly backchannelLogoutUri: string
  readonly frontchannelLogoutUri: string
  /** Public key for RSA-OAEP-256; ID Tokens are encrypted to it where there is one. */
  readonly encryptTo?: CryptoKey
}

/** What the OP does when its Logout Endpoint is asked. */
export interface LogoutScript {
  /** Makes the Logout Token out of good claims; no token is sent without it. */
  readonly token?: (claims: Record<string, unknown>) => string | Promise<string>
  /** Frames the RP's front-channel logout URI before the redirect. */
  readonly frame?: true
  /** What comes back as `state`; by default what was sent. */
  readonly state?: 'changed' | 'none'
}

/** How the RP took a Logout Token. */
export interface Received {
  readonly status: number
  readonly cacheControl: string | null
}

/** An OP that follows a script, as the OpenID Foundation's conformance suite does, and writes down what it is asked. */
export interface ScriptedOp {
  readonly issuer: string
  /** `authorize`, `authorize none`, `end_session`, `iframe`, `message unchanged` and the like, in order. */
  readonly log: readonly string[]
  readonly received: readonly Received[]
  /** What an OP could not put up with: no valid hint, a URI that was not registered, wrong credentials. */
  readonly problems: readonly string[]
  script: LogoutScript
  /** Claims of a good Logout Token for the last login, with a `jti` of its own. */
  claims(): Record<string, unknown>
  sign(claims: Record<string, unknown>, header?: Record<string, unknown>, alg?: 'RS256' | 'ES256'): Promise<string>
  /** Encrypts a token as it was registered. */
  encrypt(token: string): Promise<string>
  publicKey(): CryptoKey
  /** Posts to the RP's back-channel endpoint. */
  send(token: string, more?: Record<string, string>): Promise<Received>
  lastIdToken(): string
  /** Times that the keys were fetched. */
  keysAsked(): number
  /** Puts another token in the place of the next ID Token. */
  nextIdToken: (() => Promise<string>) | undefined
  /** Ends the OP session as another app's logout would. */
  endSession(): void
  close(): Promise<void>
}

/** 20 letters, 10 digits and 5 punctuation characters, as the suite makes them. */
const newSid = (): string => `${letters(20)}${String(Date.now()).slice(-10)}&#%+ `
const letters = (count: number): string => randomBytes(count).toString('hex').slice(0, count)

export async function startScriptedOp(rp: RegisteredRp): Promise<ScriptedOp> {
  const rsa = await generateKeyPair('RS256')
  const ec = await generateKeyPair('ES256')
  const keys = { RS256: rsa.privateKey, ES256: ec.privateKey }
  const log: string[] = []
  const received: Received[] = []
  const problems: string[] = []
  const codes = new Map<string, URLSearchParams>()
  const issued = new Set<string>()
  let session: { sub: string; sid: string; state: string } | undefined
  let last = { sub: '', sid: '', idToken: '' }

  const server = createServer((req, res) => void answer(req, res))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const issuer = `http://localhost:${(server.address() as AddressInfo).port}`
  const now = (): number => Math.floor(Date.now() / 1000)

  const op: ScriptedOp = {
    issuer,
    log,
    received,
    problems,
    script: {},
    claims: () => ({
      iss: issuer,
      aud: rp.clientId,
      sub: last.sub,
      sid: last.sid,
      jti: letters(20),
      iat: now(),
      exp: now() + 120,
      events: { 'http://schemas.openid.net/event/backchannel-logout': {} },
      ignored_claim: 'ignored',
    }),
    sign: (claims, header = {}, alg = 'RS256') =>
      new SignJWT(claims).setProtectedHeader({ alg, kid: alg, ...header }).sign(keys[alg]),
    async encrypt(token) {
      if (rp.encryptTo === undefined) throw new Error('this RP has registered no encryption')
      const header = { alg: 'RSA-OAEP-256', enc: 'A128CBC-HS256', cty: 'JWT' }
      return new CompactEncrypt(new TextEncoder().encode(token)).setProtectedHeader(header).encrypt(rp.encryptTo)
    },
    publicKey: () => rsa.publicKey,
    async send(token, more = { ignored_parameter: 'ignored' }) {
      const body = new URLSearchParams({ logout_token: token, ...more })
      const response = await fetch(rp.backchannelLogoutUri, { method: 'POST', body })
      const got = { status: response.status, cacheControl: response.headers.get('cache-control') }
      await response.arrayBuffer()
      received.push(got)
      return got
    },
    lastIdToken: () => last.idToken,
    keysAsked: () => log.filter((line) => line === 'jwks').length,
    nextIdToken: undefined,
    endSession() {
      session = undefined
    },
    async close() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }

  async function answer(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const url = new URL(req.url ?? '/', issuer)
    const body = req.method === 'POST' ? new URLSearchParams(await textOf(req)) : undefined
    if (url.pathname === '/.well-known/openid-configuration') return json(res, metadata())
    if (url.pathname === '/jwks') return jwks(res)
    if (url.pathname === '/authorize') return authorize(url.searchParams, res)
    if (url.pathname === '/token' && body) return token(req, body, res)
    if (url.pathname === '/end_session') return endSession(body ?? url.searchParams, res)
    if (url.pathname === '/iframe') return iframe(res)
    if (url.pathname === '/message')
      return message(url.searchParams.get('text') ?? '', url.searchParams.get('from'), res)
    res.writeHead(404).end()
  }

  const metadata = () => ({
    issuer,
    authorization_endpoint: `${issuer}/authorize`,
    token_endpoint: `${issuer}/token`,
    jwks_uri: `${issuer}/jwks`,
    end_session_endpoint: `${issuer}/end_session`,
    check_session_iframe: `${issuer}/iframe`,
    response_types_supported: ['code'],
    subject_types_supported: ['public'],
    id_token_signing_alg_values_supported: ['RS256', 'ES256'],
    frontchannel_logout_supported: true,
    frontchannel_logout_session_supported: true,
    backchannel_logout_supported: true,
    backchannel_logout_session_supported: true,
  })

  async function jwks(res: ServerResponse): Promise<void> {
    log.push('jwks')
    const rs = { ...(await exportJWK(rsa.publicKey)), kid: 'RS256', alg: 'RS256', use: 'sig' }
    const es = { ...(await exportJWK(ec.publicKey)), kid: 'ES256', alg: 'ES256', use: 'sig' }
    json(res, { keys: [rs, es] })
  }

  function authorize(query: URLSearchParams, res: ServerResponse): void {
    const prompt = query.get('prompt')
    log.push(['authorize', ...(prompt === null ? [] : [prompt])].join(' '))
    if (query.get('redirect_uri') !== rp.redirectUri) problems.push('redirect_uri was not registered')
    const back = new URL(rp.redirectUri)
    back.searchParams.set('state', query.get('state') ?? '')
    if (prompt === 'none' && !session) back.searchParams.set('error', 'login_required')
    else {
      session ??= { sub: `user ${letters(4)}`, sid: newSid(), state: letters(16) }
      const code = letters(20)
      codes.set(code, query)
      back.searchParams.set('code', code)
    }
    back.searchParams.set('session_state', sessionState(letters(8), back.origin))
    redirect(res, back.href)
  }

  /** As the suite computes it; only this OP can. */
  function sessionState(salt: string, origin: string | null): string {
    const input = `${rp.clientId} ${origin} ${session?.state ?? 'nobody'} ${salt}`
    return `${createHash('sha256').update(input).digest('base64url')}.${salt}`
  }

  async function token(req: IncomingMessage, form: URLSearchParams, res: ServerResponse): Promise<void> {
    const [, basic = ''] = (req.headers.authorization ?? '').split(' ')
    const credentials = Buffer.from(basic, 'base64').toString().split(':').map(decodeURIComponent)
    if (credentials.join(':') !== `${rp.clientId}:${rp.clientSecret}`) problems.push('wrong client credentials')
    const query = codes.get(form.get('code') ?? '')
    const challenge = createHash('sha256')
      .update(form.get('code_verifier') ?? '')
      .digest('base64url')
    if (!query || !session || query.get('code_challenge') !== challenge)
      return json(res, { error: 'invalid_grant' }, 400)
    codes.delete(form.get('code') ?? '')
    const { sub, sid } = session
    const nonce = query.get('nonce') ?? undefined
    const claims = { iss: issuer, aud: rp.clientId, sub, sid, iat: now(), exp: now() + 300, nonce }
    const { nextIdToken = () => op.sign(claims) } = op
    op.nextIdToken = undefined
    const idToken = await nextIdToken()
    issued.add(idToken)
    last = { sub, sid, idToken }
    const sent = rp.encryptTo === undefined ? idToken : await op.encrypt(idToken)
    json(res, { access_token: letters(20), token_type: 'Bearer', id_token: sent })
  }

  async function endSession(params: URLSearchParams, res: ServerResponse): Promise<void> {
    log.push('end_session')
    if (!issued.has(params.get('id_token_hint') ?? '')) problems.push('id_token_hint is no ID Token of this OP')
    const target = params.get('post_logout_redirect_uri')
    if (target !== rp.postLogoutRedirectUri) problems.push('post_logout_redirect_uri was not registered')
    session = undefined
    const { script } = op
    if (script.token) await op.send(await script.token(op.claims()))
    const back = new URL(rp.postLogoutRedirectUri)
    const state = params.get('state')
    if (state !== null && script.state !== 'none') {
      back.searchParams.set('state', script.state === 'changed' ? `${state}_INVALID` : state)
    }
    if (!script.frame) return redirect(res, back.href)
    const frame = new URL(rp.frontchannelLogoutUri)
    frame.searchParams.set('iss', issuer)
    frame.searchParams.set('sid', last.sid)
    html(
      res,
      `<iframe id="f"></iframe><script>
      f.onload = () => { location = ${JSON.stringify(back.href)} }
      f.src = ${JSON.stringify(frame.href)}</script>`,
    )
  }

  function iframe(res: ServerResponse): void {
    log.push('iframe')
    html(
      res,
      `<script>addEventListener('message', async (event) => {
      const query = new URLSearchParams({ text: event.data, from: event.origin })
      const answer = await (await fetch('/message?' + query)).text()
      event.source.postMessage(answer, event.origin)
    })</script>`,
    )
  }

  function message(text: string, origin: string | null, res: ServerResponse): void {
    const [clientId, state = ''] = text.split(' ')
    const [, salt = ''] = state.split('.')
    const isKnown = clientId === rp.clientId && salt !== ''
    const verdict = isKnown ? (state === sessionState(salt, origin) ? 'unchanged' : 'changed') : 'error'
    log.push(`message ${verdict}`)
    res.end(verdict)
  }

  return op
}

const redirect = (res: ServerResponse, location: string): void => void res.writeHead(303, { location }).end()

function json(res: ServerResponse, body: unknown, status = 200): void {
  res.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
}

function html(res: ServerResponse, body: string): void {
  res.writeHead(200, { 'content-type': 'text/html' }).end(`<!doctype html><title>OP</title>${body}`)
}

async function textOf(req: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of req) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString()
}

import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type CryptoKey, exportJWK, generateKeyPair, SignJWT } from 'jose'

export type Alg = 'RS256' | 'ES256'

export const CLIENT_ID = 'app'
export const CLIENT_SECRET = 'a secret for the bench, long enough for everybody'

/** As much of an OP as RPs need to log in and to be told of logouts. It shares this process with the load. */
export interface OpForRps {
  readonly issuer: string
  /** Logs `sub` in at an RP's authorization request, and gives the URL the browser goes back to. */
  logIn(authorizationRequest: string, alg: Alg): string
  /** Signs a Logout Token for the RP session of a `sid`. */
  logoutToken(sid: string, alg: Alg): Promise<string>
  close(): Promise<void>
}

export async function startOpForRps(): Promise<OpForRps> {
  const pairs = { RS256: await generateKeyPair('RS256'), ES256: await generateKeyPair('ES256') }
  const keys = await Promise.all([jwkOf(pairs.RS256.publicKey, 'RS256'), jwkOf(pairs.ES256.publicKey, 'ES256')])
  const codes = new Map<string, { nonce: string; alg: Alg }>()
  let count = 0

  const server = createServer(async (req, res) => {
    if (req.url === '/.well-known/openid-configuration') return json(res, metadata)
    if (req.url === '/jwks') return json(res, { keys })
    let body = ''
    for await (const chunk of req.setEncoding('utf8')) body += chunk
    const login = codes.get(new URLSearchParams(body).get('code') ?? '')
    if (req.url !== '/token' || !login) return void res.writeHead(400).end()
    const times = { iat: now(), exp: now() + 3600 }
    const claims = { iss: issuer, aud: CLIENT_ID, sub: 'ada', sid: `sid ${++count}`, ...times, nonce: login.nonce }
    json(res, { access_token: 'a', token_type: 'Bearer', expires_in: 3600, id_token: await sign(claims, login.alg) })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const issuer = `http://localhost:${(server.address() as AddressInfo).port}`
  const metadata = {
    issuer,
    authorization_endpoint: `${issuer}/authorize`,
    token_endpoint: `${issuer}/token`,
    jwks_uri: `${issuer}/jwks`,
    end_session_endpoint: `${issuer}/end`,
    response_types_supported: ['code'],
    response_modes_supported: ['query'],
    subject_types_supported: ['public'],
    id_token_signing_alg_values_supported: ['RS256', 'ES256'],
  }

  const sign = (claims: Record<string, unknown>, alg: Alg, typ = 'JWT'): Promise<string> =>
    new SignJWT(claims).setProtectedHeader({ alg, kid: alg, typ }).sign(pairs[alg].privateKey)

  return {
    issuer,
    logIn(authorizationRequest, alg) {
      const { searchParams } = new URL(authorizationRequest)
      const code = `code-${++count}`
      codes.set(code, { nonce: searchParams.get('nonce') ?? '', alg })
      const back = new URL(searchParams.get('redirect_uri') ?? '')
      back.search = `${new URLSearchParams({ code, state: searchParams.get('state') ?? '' })}`
      return back.href
    },
    logoutToken(sid, alg) {
      const events = { 'http://schemas.openid.net/event/backchannel-logout': {} }
      const times = { iat: now(), exp: now() + 120 }
      const claims = { iss: issuer, aud: CLIENT_ID, sub: `sub of ${sid}`, sid, jti: `jti ${++count}`, ...times, events }
      return sign(claims, alg, 'logout+jwt')
    },
    async close() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

const now = (): number => Math.floor(Date.now() / 1000)

const jwkOf = async (key: CryptoKey, alg: Alg) => ({ ...(await exportJWK(key)), kid: alg, alg, use: 'sig' })

function json(res: ServerResponse, body: unknown): void {
  res.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(body))
}

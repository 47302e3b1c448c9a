import type { IncomingMessage, Server } from 'node:http'
import { type CryptoKey, exportJWK, generateKeyPair, type JWK, SignJWT } from 'jose'
import { listen, shut } from './support.ts'

/** A foreign OP that says whatever a test wants: discovery, keys, tokens, revocation. */
export interface FakeOp {
  readonly issuer: string
  /** Requests so far, by path. */
  readonly asked: Map<string, number>
  /** Forms that were posted, by path. */
  readonly posted: { readonly path: string; readonly form: URLSearchParams }[]
  /** Overrides an answer; `hang up` closes the connection, `say nothing` keeps it open. */
  readonly answers: Map<string, FakeAnswer | 'hang up' | 'say nothing'>
  /** Signs with the published key of that algorithm. */
  mint(claims: Record<string, unknown>, header?: Record<string, unknown>, alg?: 'RS256' | 'ES256'): Promise<string>
  /** Publishes new keys in place of the old. */
  rotate(): Promise<void>
  /** Makes this OP publish and use another's keys. */
  shareKeysOf(other: FakeOp): void
  readonly keys: OpKeys
  close(): Promise<void>
}

interface FakeAnswer {
  readonly status: number
  readonly body: unknown
  readonly headers?: Readonly<Record<string, string>>
  /** Milliseconds it takes. Default 0. */
  readonly after?: number
}

interface OpKeys {
  readonly kid: string
  readonly private: Readonly<Record<'RS256' | 'ES256', CryptoKey>>
  readonly published: readonly JWK[]
}

let rotations = 0

async function makeKeys(): Promise<OpKeys> {
  const kid = `key-${++rotations}`
  const rsa = await generateKeyPair('RS256')
  const ec = await generateKeyPair('ES256')
  return {
    kid,
    private: { RS256: rsa.privateKey, ES256: ec.privateKey },
    published: [
      { ...(await exportJWK(rsa.publicKey)), kid, alg: 'RS256', use: 'sig' },
      { ...(await exportJWK(ec.publicKey)), kid, alg: 'ES256', use: 'sig' },
    ],
  }
}

export async function startFakeOp(): Promise<FakeOp> {
  const asked = new Map<string, number>()
  const posted: { path: string; form: URLSearchParams }[] = []
  const answers: FakeOp['answers'] = new Map()
  let keys = await makeKeys()
  let issuer = ''
  const { server, port }: { server: Server; port: number } = await listen(async (req, res) => {
    const path = new URL(req.url ?? '/', 'http://op').pathname
    asked.set(path, (asked.get(path) ?? 0) + 1)
    if (req.method === 'POST') posted.push({ path, form: new URLSearchParams(await textOf(req)) })
    const own = answers.get(path) ?? answerOf(path)
    if (own === 'say nothing') return
    if (own === 'hang up') return void req.socket.destroy()
    if (own.after !== undefined) await new Promise((resolve) => setTimeout(resolve, own.after))
    res.writeHead(own.status, { 'content-type': 'application/json', ...own.headers })
    res.end(own.body === undefined ? '' : JSON.stringify(own.body))
  })
  issuer = `http://127.0.0.1:${port}`

  function answerOf(path: string): FakeAnswer {
    if (path === '/.well-known/openid-configuration') {
      return {
        status: 200,
        body: {
          issuer,
          authorization_endpoint: `${issuer}/authorize`,
          token_endpoint: `${issuer}/token`,
          jwks_uri: `${issuer}/jwks`,
          end_session_endpoint: `${issuer}/end?tenant=1`,
          revocation_endpoint: `${issuer}/revoke`,
          check_session_iframe: `${issuer}/iframe`,
          response_types_supported: ['code'],
          subject_types_supported: ['public'],
          id_token_signing_alg_values_supported: ['RS256', 'ES256'],
        },
      }
    }
    if (path === '/jwks') return { status: 200, body: { keys: keys.published } }
    if (path === '/revoke') return { status: 200, body: undefined }
    return { status: 404, body: { error: 'not_found' } }
  }

  return {
    issuer,
    asked,
    posted,
    answers,
    mint: (claims, header = {}, alg = 'RS256') =>
      new SignJWT(claims)
        .setProtectedHeader({ alg, kid: keys.kid, typ: 'logout+jwt', ...header })
        .sign(keys.private[alg]),
    async rotate() {
      keys = await makeKeys()
    },
    shareKeysOf(other) {
      keys = other.keys
    },
    get keys() {
      return keys
    },
    close: () => shut(server),
  }
}

async function textOf(req: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of req) chunks.push(chunk)
  return Buffer.concat(chunks).toString()
}

import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { ClientMetadata } from 'oidc-provider'

/** A Logout Token that an RP was sent. */
export interface ReceivedLogout {
  readonly app: string
  readonly token: string
  readonly contentType: string | undefined
  readonly traceparent: string | undefined
}

/** Many small apps on one port, each with a host name of its own: `notes.localhost`, `mail.localhost`. */
export interface RpSite {
  origin(app: string): string
  /** Metadata under which the app is registered at the OP. */
  client(app: string, more?: Partial<ClientMetadata>): ClientMetadata & { client_id: string; client_secret: string }
  /** Everything that reached the apps, in order: `logout notes`, `GET notes /bye?state=1`. */
  readonly log: readonly string[]
  /** The form bodies of POSTs other than Logout Tokens. */
  readonly forms: readonly URLSearchParams[]
  readonly logouts: readonly ReceivedLogout[]
  /** Resolves when as many Logout Tokens have arrived. */
  received(count: number): Promise<readonly ReceivedLogout[]>
  /** Replaces the answer of an app's back-channel endpoint; the default is 200. */
  answer(app: string, respond: (response: ServerResponse) => void): void
  close(): Promise<void>
}

export async function startRpSite(): Promise<RpSite> {
  const log: string[] = []
  const forms: URLSearchParams[] = []
  const logouts: ReceivedLogout[] = []
  const answers = new Map<string, (response: ServerResponse) => void>()
  const waiting = new Set<() => void>()

  const server = createServer(async (request, response) => {
    const { method = '', url = '', headers } = request
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const backchannel = /^\/backchannel\/([^/?]+)$/.exec(url)?.[1]
    const body = new URLSearchParams(Buffer.concat(chunks).toString())
    if (backchannel === undefined) {
      if (method === 'POST') forms.push(body)
      log.push(`${method} ${headers.host?.split('.')[0]} ${url}`)
      response.setHeader('content-type', 'text/html')
      response.end('<!doctype html><title>An app</title>')
      return
    }
    const token = body.get('logout_token') ?? ''
    log.push(`logout ${backchannel}`)
    const traceparent = headers.traceparent?.toString()
    logouts.push({ app: backchannel, token, contentType: headers['content-type'], traceparent })
    for (const check of waiting) check()
    const respond = answers.get(backchannel)
    if (respond) respond(response)
    else response.end()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const origin = (app: string) => `http://${app}.localhost:${port}`

  return {
    origin,
    client: (app, more = {}) => ({
      client_name: `${app.charAt(0).toUpperCase()}${app.slice(1)}`,
      redirect_uris: [`${origin(app)}/cb`],
      post_logout_redirect_uris: [`${origin(app)}/bye`],
      backchannel_logout_uri: `http://127.0.0.1:${port}/backchannel/${app}`,
      grant_types: ['authorization_code', 'refresh_token'],
      token_endpoint_auth_method: 'client_secret_post',
      ...more,
      client_id: app,
      client_secret: `the secret of ${app}, long enough for a MAC`,
    }),
    log,
    forms,
    logouts,
    received: (count) =>
      new Promise((resolve) => {
        const check = () => {
          if (logouts.length < count) return
          waiting.delete(check)
          resolve(logouts)
        }
        waiting.add(check)
        check()
      }),
    answer: (app, respond) => {
      answers.set(app, respond)
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

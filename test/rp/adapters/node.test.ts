import { once } from 'node:events'
import { get, type IncomingMessage, request, type ServerResponse } from 'node:http'
import { describe, expect, it } from 'vitest'
import type { RpAnswer } from '../../../src/rp/http.ts'
import { createRelyingParty } from '../../../src/rp.ts'
import { memoryStore } from '../../../src/rp-memory.ts'
import { auth, getRpSession, requireLogin } from '../../../src/rp-node.ts'
import { listen, type Mount, shut } from '../support.ts'
import { adapterFlows } from './flow-suite.ts'

function app(before: (req: IncomingMessage) => Promise<void> = async () => {}): Mount {
  return async (rp) => {
    const lockstep = auth(rp)
    return (req, res) =>
      respond(req, res).catch((error: { status?: number }) => res.writeHead(error.status ?? 500).end())

    async function respond(req: IncomingMessage, res: ServerResponse): Promise<void> {
      await before(req)
      if (await lockstep(req, res)) return
      if (req.url === '/echo') {
        req.pipe(res)
      } else if (req.url?.startsWith('/me')) {
        const session = await requireLogin(rp, req, res)
        if (session) res.end(`Hello ${session.data.name}`)
      } else {
        const current = await getRpSession(rp, req, res)
        res.end(
          current.state === 'alive' ? 'signed in' : `signed out ${current.state === 'ended' ? current.end.cause : ''}`,
        )
      }
    }
  }
}

async function textOf(req: IncomingMessage): Promise<string> {
  let text = ''
  for await (const chunk of req.setEncoding('utf8')) text += chunk
  return text
}

adapterFlows({
  name: 'node:http',
  mount: app(),
  parsers: {
    'a parser that leaves req.body': app(async (req) => {
      if (req.method === 'POST') Object.assign(req, { body: await textOf(req) })
    }),
  },
  eaters: {
    'something that eats bodies': app(async (req) => {
      if (req.method === 'POST') await textOf(req)
    }),
  },
})

describe('the node:http adapter', () => {
  it('comes to an end when the browser was gone before anybody read its body', async () => {
    const rp = createRelyingParty({
      issuer: 'http://localhost',
      clientId: 'notes',
      clientSecret: 'secret',
      appUrl: 'http://localhost',
      store: memoryStore(),
      log: () => {},
    })
    const ended = Promise.withResolvers<boolean>()
    const { server, port } = await listen(async (req, res) => {
      sent.destroy()
      await new Promise((closed) => req.once('close', closed))
      ended.resolve(auth(rp)(req, res))
    })
    const headers = { 'content-type': 'application/x-www-form-urlencoded', 'content-length': 100 }
    const sent = request({ host: '127.0.0.1', port, path: '/auth/backchannel-logout', method: 'POST', headers })
    sent.on('error', () => {}) // it is destroyed
    sent.write('logout_token=a')
    expect(await ended.promise).toBe(true)
    await rp.close()
    await shut(server)
  })

  it('leaves no listeners behind when a tab reads slower than there is to write', async () => {
    const listeners: number[] = []
    const { server, port } = await listen(async (req, res) => {
      async function* body() {
        for (let piece = 0; piece < 20; piece++) {
          yield 'x'.repeat(1_000_000)
          listeners.push(res.listenerCount('close'))
        }
      }
      const answer: RpAnswer = { status: 200, headers: {}, cookies: [], body: body() }
      await auth({ respond: async () => answer, home: '/', base: '', close: async () => {} })(req, res)
    })
    const [response] = (await once(get({ host: '127.0.0.1', port }), 'response')) as [IncomingMessage]
    let length = 0
    for await (const chunk of response) length += chunk.length
    expect(length).toBe(20_000_000)
    expect(listeners.at(-1)).toBe(listeners[0])
    await shut(server)
  })
})

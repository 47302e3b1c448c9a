import { once } from 'node:events'
import { Readable } from 'node:stream'
import fastify, { type FastifyInstance } from 'fastify'
import { describe, expect, it } from 'vitest'
import { namesOf } from '../../../src/rp/session-id.ts'
import { createRelyingParty, type RelyingParty } from '../../../src/rp.ts'
import { auth, requireLogin, rpSessionOf } from '../../../src/rp-fastify.ts'
import { memoryStore } from '../../../src/rp-memory.ts'
import { opened, someSession } from '../../../src/testing/rp-store-bench.ts'
import type { Mount } from '../support.ts'
import { adapterFlows } from './flow-suite.ts'

function app(before: (shell: FastifyInstance) => void = () => {}): Mount {
  return async (rp) => {
    const shell = fastify()
    before(shell)
    await shell.register(auth(rp))
    shell.get('/', async (request) =>
      request.rpSession ? 'signed in' : `signed out ${request.rpSessionEnd?.cause ?? ''}`,
    )
    shell.get('/me', { preHandler: requireLogin(rp) }, async (request) => `Hello ${rpSessionOf(rp, request).data.name}`)
    shell.register(async (child) => {
      child.removeAllContentTypeParsers()
      child.addContentTypeParser('*', { parseAs: 'string' }, (_request, body, done) => {
        done(null, body)
      })
      child.post('/echo', async (request) => request.body)
    })
    await shell.ready()
    return (req, res) => shell.routing(req, res)
  }
}

adapterFlows({
  name: 'Fastify',
  mount: app(),
  parsers: {
    'a form parser like @fastify/formbody': app((shell) => {
      const form = 'application/x-www-form-urlencoded'
      shell.addContentTypeParser(form, { parseAs: 'string' }, (_request, body, done) => {
        done(null, Object.fromEntries(new URLSearchParams(String(body))))
      })
    }),
  },
  eaters: {
    'a hook that eats bodies': app((shell) => {
      shell.addHook('preParsing', async (_request, _reply, payload) => {
        payload.resume()
        await once(payload, 'end')
        return Object.assign(Readable.from([]).resume(), { receivedEncodedLength: 0 })
      })
    }),
  },
})

describe('the Fastify adapter, as Fastify does things', () => {
  const options = { issuer: 'https://op.example', clientSecret: 'secret', appUrl: 'https://notes.example' }
  const someRp = (clientId = 'notes', prefix = '/auth'): RelyingParty =>
    createRelyingParty({ ...options, clientId, prefix, store: memoryStore() })

  /** What an app's requests are made with. */
  async function namesIn(shell: FastifyInstance): Promise<string[]> {
    let names: string[] = []
    shell.get('/names', async (request) => {
      names = Object.keys(request)
    })
    await shell.inject('/names')
    return names
  }

  it('is a plugin with a name, for Fastify 5, whose decorators reach the whole app [fastify 1, every 2]', async () => {
    const shell = fastify()
    const plugin = auth(someRp())
    expect(plugin).toMatchObject({ [Symbol.for('plugin-meta')]: { name: 'lockstep /auth', fastify: '5.x' } })
    await shell.register(plugin)
    expect(shell.hasPlugin('lockstep /auth')).toBe(true)
    shell.get('/', async ({ rpSession, rpSessionEnd }) => ({ rpSession, rpSessionEnd }))
    const known = await namesIn(fastify())
    expect((await namesIn(shell)).filter((name) => !known.includes(name))).toEqual(['rpSession', 'rpSessionEnd'])
    expect((await shell.inject('/')).json()).toEqual({ rpSession: null, rpSessionEnd: null })
    await shell.close()
  })

  it("keeps its form parser to itself: the app's routes have the parsers the app gave them [fastify 2]", async () => {
    const shell = fastify()
    await shell.register(auth(someRp()))
    shell.post('/form', async (request) => request.body)
    const payload = {
      method: 'POST',
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      payload: 'a=1',
    } as const
    expect((await shell.inject({ url: '/form', ...payload })).statusCode).toBe(415)
    expect((await shell.inject({ url: '/auth/backchannel-logout', ...payload })).statusCode).toBe(400)
    await shell.close()
  })

  it('answers by reply, so that onSend hooks before it see the answer [fastify 3]', async () => {
    const shell = fastify()
    shell.addHook('onSend', async (_request, reply) => {
      reply.header('x-request-id', '7')
    })
    await shell.register(auth(someRp()))
    const answer = await shell.inject('/auth/session')
    expect([answer.statusCode, answer.headers['x-request-id']]).toEqual([401, '7'])
    await shell.close()
  })

  it('holds two relying parties in one app', async () => {
    const shell = fastify()
    await shell.register(auth(someRp('notes', '/auth')))
    await shell.register(auth(someRp('mail', '/mail-auth')))
    expect((await shell.inject('/auth/session')).statusCode).toBe(401)
    expect((await shell.inject('/mail-auth/session')).statusCode).toBe(401)
    await shell.close()
  })

  it('closes the relying party before the server waits for what is open, so that a stream does not hold it up [fastify 4]', async () => {
    const store = memoryStore()
    const rp = createRelyingParty({ ...options, clientId: 'notes', cookieSuffix: 'notes', store })
    const cookie = 'x'.repeat(43)
    const at = Math.floor(Date.now() / 1000)
    const life = { firstIat: at, createdAt: at, idleExpiresAt: at + 600, expiresAt: at + 600 }
    const sessions = store.forClient({ issuer: options.issuer, clientId: 'notes' }, Date)
    await opened(sessions, someSession({ ...namesOf(cookie), ...life }))
    const shell = fastify()
    await shell.register(auth(rp))
    const url = await shell.listen({ host: '127.0.0.1', port: 0 })
    const headers = { cookie: `__Host-lockstep-notes=${cookie}` }
    const stream = await fetch(`${url}/auth/session/events`, { headers })
    const reader = stream.body?.getReader()
    expect(new TextDecoder().decode((await reader?.read())?.value)).toContain('alive')
    await shell.close()
    expect((await reader?.read())?.done).toBe(true)
  })

  it('tells who asks for the RP session of an unguarded route what is missing', async () => {
    const rp = someRp()
    const shell = fastify()
    await shell.register(auth(rp))
    shell.get('/', async (request) => rpSessionOf(rp, request).sub)
    const answer = await shell.inject('/')
    expect(answer.statusCode).toBe(500)
    expect(answer.json()).toMatchObject({ message: expect.stringContaining('requireLogin(rp)') })
    await shell.close()
  })
})

import { once } from 'node:events'
import { Readable } from 'node:stream'
import fastify, { type FastifyInstance } from 'fastify'
import { auth, requireLogin, rpSessionOf } from '../../../src/rp-fastify.ts'
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
  eater: app((shell) => {
    shell.addHook('preParsing', async (_request, _reply, payload) => {
      payload.resume()
      await once(payload, 'end')
      return Object.assign(Readable.from([]).resume(), { receivedEncodedLength: 0 })
    })
  }),
})

import type { IncomingMessage, ServerResponse } from 'node:http'
import { auth, getRpSession, requireLogin } from '../../../src/rp-node.ts'
import type { Mount } from '../support.ts'
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
  eater: app(async (req) => {
    if (req.method === 'POST') await textOf(req)
  }),
})

import { Readable } from 'node:stream'
import type { FastifyInstance, FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import fastifyPlugin from 'fastify-plugin'
import type { SessionEnd } from '../../protocol/session-document.ts'
import type { RpAnswer, RpRequest } from '../http.ts'
import type { Mountable, RelyingParty } from '../relying-party.ts'
import type { RpSession } from '../rp-session.ts'
import { isBelow } from '../side-by-side.ts'
import { askToLogIn, currentOf } from './guard.ts'
import { fromNode } from './node-http.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** Who is signed in at this browser. Behind `requireLogin(rp)`, `rpSessionOf(rp, request)` knows whose data it holds. */
    rpSession: RpSession | null
    /** How the RP session ended whose cookie this browser still has. */
    rpSessionEnd: SessionEnd | null
  }
}

/**
 * A plugin that answers our routes and sets `request.rpSession` for every other one: `app.register(auth(rp))`.
 *
 * When the server closes it closes the relying party too, since open streams would keep the server from closing.
 */
export function auth<Data>(rp: Mountable<Data>): FastifyPluginAsync {
  const plugin: FastifyPluginAsync = async (app) => {
    for (const name of ['rpSession', 'rpSessionEnd']) {
      if (!app.hasRequestDecorator(name)) app.decorateRequest(name, null)
    }
    app.addHook('onRequest', async (request, reply) => {
      if (ours.has(request.server)) return // who looks after a session does not use the app (T11)
      const { current, cookies } = await currentOf(rp, request.raw, fromFastify(request, reply))
      for (const cookie of cookies) reply.header('set-cookie', cookie)
      if (current.state === 'alive') request.rpSession = current.session
      if (current.state === 'ended') request.rpSessionEnd = current.end
    })
    app.addHook('preClose', (done) => {
      rp.close().then(() => done(), done)
    })
  }
  const both: FastifyPluginAsync = async (app) => {
    // Encapsulated: our routes want the raw body, and none of the app's parsers.
    await app.register(async (child) => {
      serveRoutes(child, rp)
    })
    await plugin(app, {})
  }
  return fastifyPlugin(both, { name: `lockstep ${rp.base}`, fastify: '5.x' })
}

/** The encapsulated instances that have the routes of a relying party: Fastify runs hooks of their parents there too. */
const ours = new WeakSet<FastifyInstance>()

function serveRoutes(app: FastifyInstance, rp: Mountable): void {
  ours.add(app)
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', (_request, payload, done) => {
    done(null, payload)
  })
  const respond = async (request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> => {
    const answer = await rp.respond(fromFastify(request, reply))
    if (answer) return write(answer, reply)
    reply.callNotFound()
    return reply
  }
  const path = pathIn(app, rp)
  app.all(path, respond)
  app.all(`${path}/*`, respond)
}

/** Where our routes are within a plugin, which puts its prefix before every path. */
function pathIn({ prefix }: FastifyInstance, { base }: Mountable): string {
  if (prefix === '' || isBelow(base, prefix)) return base.slice(prefix.length)
  throw new TypeError(
    `auth(rp) answers under ${base}, as appUrl and prefix say, and cannot do so in a plugin whose prefix is ${prefix}`,
  )
}

/**
 * A `preHandler` (or any earlier hook) that lets only those through who are signed in at this relying party. A page
 * request goes to the login and comes back; anything else gets 401, since a script cannot follow a login.
 */
export function requireLogin<Data>(
  rp: RelyingParty<Data>,
): (request: FastifyRequest, reply: FastifyReply) => Promise<FastifyReply | undefined> {
  return async (request, reply) => {
    const asked = fromFastify(request, reply)
    const { current } = await currentOf(rp, request.raw, asked)
    if (current.state !== 'alive') return write(askToLogIn(rp, asked), reply)
    request.rpSession = current.session
    signedIn.set(request, { rp, session: current.session })
    return undefined
  }
}

const signedIn = new WeakMap<FastifyRequest, { readonly rp: object; readonly session: RpSession }>()

/**
 * The RP session of a request behind `requireLogin(rp)`, with the data of its `mapSession`.
 *
 * @throws TypeError when the route is not behind `requireLogin(rp)`
 */
export function rpSessionOf<Data>(rp: RelyingParty<Data>, request: FastifyRequest): RpSession<Data> {
  const known = signedIn.get(request)
  if (known?.rp !== rp) throw new TypeError('rpSessionOf(rp, request) is for routes behind requireLogin(rp)')
  // It was made by this very relying party.
  return known.session as RpSession<Data>
}

function fromFastify(request: FastifyRequest, reply: FastifyReply): RpRequest {
  const { body } = request
  const parts = body instanceof Readable ? { stream: body } : { parsed: body }
  return fromNode(request.raw, reply.raw, { url: request.originalUrl, ...parts })
}

/** By Fastify's own means, so that hooks such as `onSend` see the answer. */
function write({ status, headers, cookies, body }: RpAnswer, reply: FastifyReply): FastifyReply {
  reply.code(status).headers(headers)
  for (const cookie of cookies) reply.header('set-cookie', cookie)
  if (typeof body === 'string') return reply.send(body)
  return reply.send(body instanceof Uint8Array ? Buffer.from(body) : Readable.from(body))
}

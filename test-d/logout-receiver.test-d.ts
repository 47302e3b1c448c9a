import { createLogoutReceiver, type KeptClaims, type LogoutReceiver, type LogoutReceiverOptions } from 'lockstep/rp'
import { auth as express, requireLogin } from 'lockstep/rp/express'
import { auth as fastify } from 'lockstep/rp/fastify'
import { auth as fetchAuth } from 'lockstep/rp/fetch'
import { auth as hono } from 'lockstep/rp/hono'
import { auth as koa } from 'lockstep/rp/koa'
import { memoryStore } from 'lockstep/rp/memory'
import { handlers } from 'lockstep/rp/next'
import { auth as node } from 'lockstep/rp/node'

const options = {
  issuer: 'https://op.example',
  clientId: 'notes',
  appUrl: 'https://notes.example',
  store: memoryStore(),
  readSession: async (request) => (request.header('cookie') ? { sub: 'ada', iat: 1 } : undefined),
  clearSession: () => ['session=; Max-Age=0'],
} satisfies LogoutReceiverOptions
const logouts = createLogoutReceiver(options)
logouts satisfies LogoutReceiver

// every adapter mounts it
for (const mount of [express, fastify, fetchAuth, hono, koa, handlers, node]) mount(logouts)
// @ts-expect-error but it signs nobody in
requireLogin(logouts)

const claims: KeptClaims = { iss: 'https://op.example', sub: 'ada', sid: 's', iat: 1 }
void (logouts.isLoggedOut(claims) satisfies Promise<boolean>)
void logouts.isLoggedOut({ ...claims, name: 'Ada' } as KeptClaims & { name: string })
// @ts-expect-error without iat nobody knows which logouts are meant
void logouts.isLoggedOut({ sub: 'ada' })
// @ts-expect-error a secret is for those who log in
createLogoutReceiver({ ...options, clientSecret: 'secret' })

import { createRelyingParty } from 'lockstep/rp'
import { memoryStore } from 'lockstep/rp/memory'

// The defaults are those of Notes at the demo's OP: npm run server -- --demo
const {
  ISSUER = 'http://localhost:4000',
  CLIENT_ID = 'notes',
  CLIENT_SECRET = 'demo-secret-of-notes',
  APP_URL = 'http://notes.localhost:4001',
} = process.env

function create() {
  return createRelyingParty({
    issuer: ISSUER,
    clientId: CLIENT_ID,
    clientSecret: CLIENT_SECRET,
    appUrl: APP_URL,
    store: memoryStore(),
    mapSession: (claims) => ({ name: claims.name ?? claims.sub }),
  })
}

// Next bundles pages and route handlers apart and so runs this file more than once in one process.
const place = Symbol.for('lockstep example: the relying party')
globalThis[place] ??= create()

export const rp = globalThis[place]

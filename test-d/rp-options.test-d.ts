import type { LoginClaims, RelyingParty, RelyingPartyOptions, RpSession } from 'lockstep/rp'
import { createRelyingParty } from 'lockstep/rp'
import { memoryStore } from 'lockstep/rp/memory'

/* Whatever way the options come, the type of the session is what mapSession returns. */

const store = memoryStore()

// in a const, as const or not
const inConst = {
  issuer: 'https://op.example',
  clientId: 'notes',
  clientSecret: 'secret',
  appUrl: 'https://notes.example',
  store,
  mapSession: (claims: LoginClaims) => ({ name: claims.name ?? claims.sub }),
}
createRelyingParty(inConst) satisfies RelyingParty<{ name: string }>

const frozen = {
  issuer: 'https://op.example',
  clientId: 'notes',
  clientSecret: 'secret',
  appUrl: 'https://notes.example',
  authorizationParams: { resource: 'https://api.example' },
  secret: ['x'.repeat(32)],
  store,
} as const
createRelyingParty(frozen) satisfies RelyingParty<undefined>

// from a function, also an asynchronous mapSession
function options(clientId: string) {
  return {
    ...inConst,
    clientId,
    mapSession: async (claims: LoginClaims) => ({ roles: String(claims.roles).split(' ') }),
  }
}
createRelyingParty(options('mail')) satisfies RelyingParty<{ roles: string[] }>

// with satisfies: the claims of mapSession get their type from it
const satisfied = {
  issuer: 'https://op.example',
  clientId: 'notes',
  clientSecret: 'secret',
  appUrl: 'https://notes.example',
  store,
  mapSession: (claims) => ({ email: claims.email }),
  onSessionEnded: (_session, end) => console.log(end.cause),
} satisfies RelyingPartyOptions<{ email: string | undefined }>
createRelyingParty(satisfied) satisfies RelyingParty<{ email: string | undefined }>

// annotated
const annotated: RelyingPartyOptions<{ id: string }> = { ...inConst, mapSession: (claims) => ({ id: claims.sub }) }
createRelyingParty(annotated) satisfies RelyingParty<{ id: string }>

// hooks see the data, inline too
createRelyingParty({
  ...inConst,
  mapSession: (claims: LoginClaims) => ({ id: claims.sub }),
  onSessionStarted: (session) => {
    session.data.id satisfies string
    // @ts-expect-error mapSession makes no name
    void session.data.name
  },
  onSessionEnded: (session: RpSession<{ id: string }>) => console.log(session.data.id),
})

// @ts-expect-error a hook for other data than mapSession makes
createRelyingParty({
  ...inConst,
  onSessionStarted: (session: RpSession<{ id: number }>) => console.log(session.data.id),
})
// @ts-expect-error no such prompt of ours
createRelyingParty({ ...inConst, prompt: 'login' })

// the hook of an app that is an OP itself
createRelyingParty({
  ...inConst,
  endDownstream: async ({ iss, sid, sub, at }) => {
    iss satisfies string
    at satisfies number
    // @ts-expect-error a logout may name a sub only
    sid satisfies string
    void sub
  },
})

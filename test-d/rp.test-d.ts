import express from 'express'
import { createRelyingParty, type RelyingParty } from 'lockstep/rp'
import { auth, requireLogin } from 'lockstep/rp/express'
import { memoryStore } from 'lockstep/rp/memory'

const base = {
  issuer: 'https://op.example',
  clientId: 'notes',
  clientSecret: 'secret',
  appUrl: 'https://notes.example',
  store: memoryStore(),
}

const rp = createRelyingParty({ ...base, mapSession: (claims) => ({ name: claims.name ?? claims.sub, admin: false }) })
rp satisfies RelyingParty<{ name: string; admin: boolean }>

void rp.endSessions('ada', ({ id, data }) => id !== 'this one' && data.admin)
// @ts-expect-error mapSession makes no e-mail address
void rp.endSessions('ada', ({ data }) => data.email)

const app = express()
app.use(auth(rp))

app.get('/notes/:id', requireLogin(rp), (req, res) => {
  req.rpSession.data.name satisfies string
  req.params.id satisfies string
  // @ts-expect-error mapSession makes no e-mail address
  void req.rpSession.data.email
  res.send(req.rpSession.data.name)
})

app.get('/open', (req, res) => {
  // @ts-expect-error nobody may be signed in here
  void req.rpSession.sub
  // @ts-expect-error whose data it is is not known without requireLogin
  void req.rpSession?.data.name
  res.send(req.rpSession?.sub ?? req.rpSessionEnd?.by)
})

createRelyingParty({ ...base, mapSession: async (claims) => ({ sub: claims.sub }) }) satisfies RelyingParty<{
  sub: string
}>
createRelyingParty(base) satisfies RelyingParty<undefined>

// @ts-expect-error the issuer is needed
createRelyingParty({ ...base, issuer: undefined })
// @ts-expect-error there is no such option
createRelyingParty({ ...base, clientID: 'notes' })

import { join } from 'node:path'
import express, { type Express, type Request, type Response } from 'express'
import { openSecrets, Provider } from 'lockstep/op'
import { sqliteStore as opStore } from 'lockstep/op/sqlite'
import { createRelyingParty, type RelyingParty, type UpstreamLogout } from 'lockstep/rp'
import { auth } from 'lockstep/rp/express'
import { sqliteStore as rpStore } from 'lockstep/rp/sqlite'
import { type ClientMetadata, errors, type KoaContextWithOIDC } from 'oidc-provider'
import { type Link, openLinks } from './links.ts'

export interface BrokerOptions {
  /** Where the broker lives; both its issuer and its appUrl. */
  readonly url: string
  readonly upstream: { readonly issuer: string; readonly clientId: string; readonly clientSecret: string }
  /** The apps that sign in here. */
  readonly clients: readonly ClientMetadata[]
  /** Folder of its three databases. */
  readonly data: string
  /** Addresses beyond public ones that Logout Tokens may go to. */
  readonly egress?: readonly string[]
}

export interface Broker {
  readonly app: Express
  readonly op: Provider
  readonly rp: RelyingParty<undefined>
  close(): Promise<void>
}

/** Seconds in which a request that is making an OP session has saved it. */
const SETTLING = 60

/**
 * An OP whose users sign in at another OP: an RP upstream, an OP downstream. A logout upstream ends the OP sessions that
 * stem from it here, and with them the apps' sessions.
 */
export async function buildBroker({ url, upstream, clients, data, egress = [] }: BrokerOptions): Promise<Broker> {
  const now = () => Math.floor(Date.now() / 1000)
  const links = openLinks(join(data, 'links.db'))
  const stores = { op: opStore(join(data, 'op.db')), rp: rpStore(join(data, 'rp.db')) }

  const rp = createRelyingParty({ ...upstream, appUrl: url, prefix: '/upstream', store: stores.rp, endDownstream })

  /** An RP session that goes on was not meant, such as one that the OP knows by another `sid` now. */
  async function isAlive({ sub, rpSession }: Link): Promise<boolean> {
    return (await rp.sessionsOf(sub)).some(({ id }) => id === rpSession)
  }

  /** Called until it resolves, also after a restart: so what cannot be done yet may throw. */
  async function endDownstream(logout: UpstreamLogout, { signal }: { signal: AbortSignal }): Promise<void> {
    let isUnderWay = false
    for (const link of links.of(logout)) {
      if (!logout.rpSessions.includes(link.rpSession) && (await isAlive(link))) continue
      signal.throwIfAborted()
      const { uid, linkedAt } = link
      const ended = await op.opSessions.end(uid, { cause: 'upstream_logout' })
      // An OP session that is not there has ended, or the request that makes it has not saved it yet.
      if (ended !== undefined || now() - linkedAt > SETTLING) links.forget(uid)
      else isUnderWay = true
    }
    if (isUnderWay) throw new Error('an OP session that is to end may be in the making')
  }

  /** Notes from which upstream login an OP session stems, before any app gets a code under it. */
  async function link({ req, oidc: { session } }: KoaContextWithOIDC): Promise<void> {
    const current = async () => (await rp.current({ header: (name) => headerOf(req.headers[name]) })).current
    const before = await current()
    if (before.state === 'alive' && session) {
      const { id: rpSession, sub, sid = null, firstIat } = before.session
      links.put({ uid: session.uid, rpSession, iss: upstream.issuer, sub, sid, firstIat, linkedAt: now() })
      // A logout that came before the link was written found nothing; it is seen here.
      if ((await current()).state === 'alive') return
    }
    throw new errors.LoginRequired('signed out upstream meanwhile')
  }

  const { jwks, cookieKeys } = await openSecrets(stores.op, url)
  const op = new Provider(
    url,
    {
      clients: [...clients],
      jwks: { keys: [...jwks.keys] },
      cookies: { keys: [...cookieKeys] },
      features: { devInteractions: { enabled: false } },
      findAccount: (_ctx, accountId) => ({ accountId, claims: async () => ({ sub: accountId }) }),
      interactions: { url: (_ctx, { uid }) => `/sign-in/${uid}` },
      async loadExistingGrant(ctx) {
        const { session, client, provider, params, result } = ctx.oidc
        if (!session?.accountId || !client) return undefined
        if (result?.login) await link(ctx)
        const known = session.grantIdFor(client.clientId)
        const found = known === undefined ? undefined : await provider.Grant.find(known)
        const grant = found ?? new provider.Grant({ accountId: session.accountId, clientId: client.clientId })
        grant.addOIDCScope(typeof params?.scope === 'string' ? params.scope : 'openid') // its apps are its own: nobody is asked for consent
        await grant.save()
        return grant
      },
    },
    {
      store: stores.op,
      egress: { allow: [...egress] },
      logout: { pages: { signedOut: offerUpstream } },
    },
  )

  const app = express()
  app.use(auth(rp))
  app.get('/sign-in/:uid', async (req: Request, res: Response) => {
    const { prompt, uid } = await op.interactionDetails(req, res)
    const { rpSession } = req
    // An RP session makes one OP session: when that has ended, the user is asked, so that nobody is signed in by surprise.
    if (rpSession === undefined || links.has(rpSession.id) || prompt.name !== 'login') {
      const again = rpSession === undefined ? '' : '&prompt=login'
      return res.redirect(303, rp.loginPath(`/sign-in/${uid}`) + again)
    }
    return op.interactionFinished(req, res, { login: { accountId: rpSession.sub } })
  })
  app.use(op.callback())

  return {
    app,
    op,
    rp,
    async close() {
      await rp.close()
      await op.close()
      await Promise.all([stores.rp.close(), stores.op.close()])
      links.close()
    },
  }
}

/** After a sign-out here the user is still signed in upstream; whether that ends too is up to him. */
function offerUpstream(): string {
  return `<!doctype html><title>Signed out</title><p>You are signed out of these apps.</p>
    <form method="post" action="/upstream/logout"><button>Sign out everywhere else too</button></form>`
}

function headerOf(value: string | readonly string[] | undefined): string | undefined {
  return typeof value === 'string' ? value : value?.join(', ')
}

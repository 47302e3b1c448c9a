import type { HttpBindings } from '@hono/node-server'
import { Hono } from 'hono'
import type { Provider } from 'lockstep/op'
import type { Client } from 'oidc-provider'
import { type Accounts, displayName } from './accounts.ts'
import type { ServerConfig } from './config.ts'
import { type AppLink, signedInPage, signedOutPage } from './pages/home-page.ts'
import { answerPage, render, type Site } from './pages.ts'

/** What the home page needs. */
export interface HomeParts {
  readonly op: Provider
  readonly site: Site
  readonly accounts: Accounts
  readonly config: ServerConfig
}

/** The page at the issuer itself: who is signed in here, in which apps, and the way out. */
export function homeRoutes({ op, site, accounts, config }: HomeParts): Hono<{ Bindings: HttpBindings }> {
  const routes = new Hono<{ Bindings: HttpBindings }>()

  routes.get('/', async (c) => {
    const session = await op.Session.get(op.createContext(c.env.incoming, c.env.outgoing))
    const account = session.accountId === undefined ? undefined : accounts.find(session.accountId)
    if (!account) {
      const known = config.demo ? await appsOf(config.clients.map((client) => client.client_id)) : []
      return answerPage(c, 200, render(site, 'Not signed in', signedOutPage({ apps: known })))
    }
    const view = {
      name: displayName(account),
      apps: await appsOf(Object.keys(session.authorizations ?? {})),
      signOutUrl: op.pathFor('end_session', { mountPath: site.base }),
    }
    return answerPage(c, 200, render(site, `Signed in as ${view.name}`, signedInPage(view)))
  })

  async function appsOf(clientIds: readonly string[]): Promise<AppLink[]> {
    const clients = await Promise.all(clientIds.map((clientId) => op.Client.find(clientId)))
    return clients.flatMap((client) => (client ? [linkTo(client)] : [])).sort((a, b) => a.name.localeCompare(b.name))
  }

  return routes
}

function linkTo(client: Client): AppLink {
  const name = client.clientName ?? client.clientId
  return client.clientUri === undefined ? { name } : { name, url: client.clientUri }
}

import type { ClientMetadata, Configuration, Provider as OidcProvider } from 'oidc-provider'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Provider } from '../../src/op.ts'
import { askForTokens, authorize, claimsOf, logIn, type OpFlow } from '../support/op-flow.ts'
import { type RpSite, startRpSite } from '../support/rp-site.ts'
import { slowMemoryAdapter } from '../support/slow-memory-adapter.ts'
import { type RunningOp, startStockOp, startTestOp } from '../support/test-op.ts'
import { createUserAgent, type UserAgent } from '../support/user-agent.ts'

/*
 * Each race is one function that runs against Lockstep, where it must hold, and against oidc-provider as it comes, where it
 * must not: that it fails there shows that it can fail.
 */

let rps: RpSite
let browser: UserAgent
const opened: { close(): Promise<unknown> }[] = []

beforeEach(async () => {
  rps = await startRpSite()
  browser = createUserAgent()
  opened.push(rps, browser)
})
afterEach(async () => {
  for (const each of opened.splice(0).reverse()) await each.close()
})

type Start = (clients: ClientMetadata[], configuration?: Configuration) => Promise<RunningOp<OidcProvider>>

const lockstep: Start = async (clients, configuration = {}) => {
  const op = await startTestOp({ clients, configuration })
  opened.push(op)
  return op
}
const stock: Start = async (clients, configuration = {}) => {
  const op = await startStockOp({ clients, configuration, adapter: slowMemoryAdapter() })
  opened.push(op)
  return op
}

/** Holds requests at one place until the test lets them go. */
function gate(): { pass(): Promise<void>; arrived: Promise<void>; close(): void; open(): void } {
  let closed = false
  let open = () => {}
  const opening = new Promise<void>((resolve) => {
    open = resolve
  })
  let arrive = () => {}
  const arrived = new Promise<void>((resolve) => {
    arrive = resolve
  })
  return {
    async pass() {
      if (!closed) return
      arrive()
      await opening
    },
    arrived,
    close: () => {
      closed = true
    },
    open: () => {
      closed = false
      open()
    },
  }
}

interface App extends ClientMetadata {
  client_secret: string
}

async function redeemAll(op: OpFlow, logins: readonly (readonly [App, string])[]): Promise<Record<string, unknown>[]> {
  const answers = await Promise.all(
    logins.map(([app, code]) =>
      askForTokens(op, app, {
        grant_type: 'authorization_code',
        code,
        redirect_uri: app.redirect_uris?.[0] ?? '',
      }),
    ),
  )
  return answers.filter(({ status }) => status === 200).map(({ body }) => body)
}

const sidOf = ({ id_token }: Record<string, unknown>) => claimsOf(String(id_token)).sid

describe('twenty RPs that log one browser in at the same moment', () => {
  async function race(start: Start): Promise<{ recorded: number; redeemed: number }> {
    const apps = Array.from({ length: 20 }, (_, i) => rps.client(`app${i}`))
    const op = await start(apps)
    await authorize(browser, op, apps[0] as App) // the user is there, and now all twenty ask
    const logins = await Promise.all(
      apps.map(async (app) => [app, (await authorize(browser, op, app, { prompt: 'none' })).code] as const),
    )
    const sessionCookie = browser.cookies(op.issuer).find(({ name }) => name === op.provider.cookieName('session'))
    const session = await op.provider.Session.find(sessionCookie?.value ?? '')
    return {
      recorded: Object.keys(session?.authorizations ?? {}).length,
      redeemed: (await redeemAll(op, logins)).length,
    }
  }

  it('are all recorded, and all their codes redeem [BCL-2.3-a] [race 1]', async () => {
    expect(await race(lockstep)).toEqual({ recorded: 20, redeemed: 20 })
  })

  it('lose most of each other at stock oidc-provider [race 1]', async () => {
    const { recorded, redeemed } = await race(stock)
    expect(recorded).toBeLessThan(20)
    expect(redeemed).toBeLessThan(20)
  })
})

describe('one RP that logs in in three tabs at the same moment', () => {
  async function race(start: Start): Promise<{ redeemed: number; sids: number }> {
    const [portal, notes] = [rps.client('portal'), rps.client('notes')]
    const op = await start([portal, notes])
    await authorize(browser, op, portal)
    const logins = await Promise.all(
      [1, 2, 3].map(async () => [notes, (await authorize(browser, op, notes, { prompt: 'none' })).code] as const),
    )
    const tokens = await redeemAll(op, logins)
    return { redeemed: tokens.length, sids: new Set(tokens.map(sidOf)).size }
  }

  it('can redeem each code, and knows one sid [FCL-3-c] [race 2]', async () => {
    expect(await race(lockstep)).toEqual({ redeemed: 3, sids: 1 })
  })

  it('has dead codes at stock oidc-provider [race 2]', async () => {
    expect((await race(stock)).redeemed).toBeLessThan(3)
  })
})

describe.each([
  'before its login is recorded',
  'after its login was recorded',
] as const)('an authorization request that was under way, %s, while its OP session was ended', (place) => {
  interface Outcome {
    error: string | null
    redeemed: boolean
    alive: boolean
    listed: boolean
    failures: number
  }

  async function race(start: Start): Promise<Outcome> {
    const [portal, notes] = [rps.client('portal'), rps.client('notes')]
    const held = gate()
    const findAccount: Configuration['findAccount'] = async (_ctx, id) => {
      if (place === 'before its login is recorded') await held.pass()
      return { accountId: id, claims: async () => ({ sub: id }) }
    }
    // oidc-provider asks this between the interaction policy and the code
    const expiresWithSession: Configuration['expiresWithSession'] = async () => {
      if (place === 'after its login was recorded') await held.pass()
      return true
    }
    const op = await start([portal, notes], { findAccount, expiresWithSession })
    await logIn(browser, op, portal)
    const cookie = browser.cookies(op.issuer).find(({ name }) => name === op.provider.cookieName('session'))
    const uid = (await op.provider.Session.find(cookie?.value ?? ''))?.uid ?? ''

    held.close()
    const inFlight = authorize(browser, op, notes, { prompt: 'none' })
    await held.arrived
    await endOpSession(op.provider, uid)
    held.open()
    const { params } = await inFlight

    const code = params.get('code')
    const redeemed = code === null ? [] : await redeemAll(op, [[notes, code]])
    const { params: afterwards } = await authorize(browser, op, portal, { prompt: 'none' })
    return {
      error: params.get('error'),
      redeemed: redeemed.length > 0,
      alive: afterwards.has('code'),
      listed: (await op.provider.Session.findByUid(uid)) !== undefined,
      failures: op.failures.length,
    }
  }

  it('does not bring it back: it is answered login_required and no code redeems [design §4] [race 3]', async () => {
    expect(await race(lockstep)).toEqual({
      error: 'login_required',
      redeemed: false,
      alive: false,
      listed: false,
      failures: 0,
    })
    const states = browser.cookies('http://localhost').filter(({ name }) => name.startsWith('__Host-op_state.'))
    expect(states.map(({ value }) => value[0])).toEqual(['n']) // the OP iframe sees the logout too
  })

  it('brings it back to life at stock oidc-provider [race 3]', async () => {
    expect(await race(stock)).toMatchObject({ redeemed: true, alive: true, listed: true })
  })
})

/** What an operator does: Lockstep's own call, or the recipe for stock oidc-provider. */
async function endOpSession(provider: OidcProvider, uid: string): Promise<void> {
  if (provider instanceof Provider) {
    await provider.opSessions.end(uid)
    return
  }
  const session = await provider.Session.findByUid(uid)
  for (const { grantId } of Object.values(session?.authorizations ?? {})) {
    if (grantId === undefined) continue
    await provider.AccessToken.revokeByGrantId(grantId)
    await provider.AuthorizationCode.revokeByGrantId(grantId)
    await provider.RefreshToken.revokeByGrantId(grantId)
    await (await provider.Grant.find(grantId))?.destroy()
  }
  await session?.destroy()
}

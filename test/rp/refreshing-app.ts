import {
  createRelyingParty,
  type RelyingParty,
  type RpLogEvent,
  type RpSessionStore,
  type RpStore,
} from '../../src/rp.ts'
import { memoryStore } from '../../src/rp-memory.ts'
import { world } from '../../src/runtime/runtime.ts'
import { type FakeOp, startFakeOp } from './fake-op.ts'
import { ask } from './plain-request.ts'

/** An app at a foreign OP, whose access tokens are refreshed. */
export interface RefreshingApp {
  readonly op: FakeOp
  readonly rp: RelyingParty
  readonly sessions: RpSessionStore
  readonly log: RpLogEvent[]
  /** Seconds by which the app's clock is ahead. */
  readonly clock: { offset: number }
  /** Another process of the same app, as far as one process can tell. */
  node(): RelyingParty
  /** Signs ada in with these members of the token response and returns her cookie. */
  signIn(more: Readonly<Record<string, unknown>>): Promise<string>
  /** What the OP answers the next refresh. */
  answerRefresh(more: Readonly<Record<string, unknown>>): void
  /** Refresh requests so far, by the refresh token they brought. */
  refreshed(): (string | null)[]
  close(): Promise<void>
}

/** A token response with a refresh token, whose access token lives for ten minutes. */
export const lasting = { expires_in: 600, refresh_token: 'r0' }

export async function startRefreshingApp(store: RpStore = memoryStore()): Promise<RefreshingApp> {
  const op = await startFakeOp()
  const nodes: RelyingParty[] = []
  const log: RpLogEvent[] = []
  const clock = { offset: 0 }
  const runtime = { ...world, now: () => world.now() + clock.offset * 1000 }
  function node(): RelyingParty {
    const one = createRelyingParty({
      issuer: op.issuer,
      clientId: 'notes',
      clientSecret: 'the client secret',
      appUrl: 'https://notes.example',
      store,
      log: (event) => log.push(event),
      runtime,
    })
    nodes.push(one)
    return one
  }
  const rp = node()
  return {
    op,
    rp,
    sessions: store.forClient({ issuer: op.issuer, clientId: 'notes' }, runtime),
    log,
    clock,
    node,
    async signIn(more) {
      const begun = await ask(rp, 'GET', '/auth/login')
      const sent = new URL(begun.headers.location ?? '').searchParams
      const nonce = sent.get('nonce')
      const iat = Math.floor(Date.now() / 1000)
      const claims = { iss: op.issuer, aud: 'notes', sub: 'ada', sid: 's', iat, exp: iat + 60, nonce }
      const id_token = await op.mint(claims, { typ: 'JWT' })
      op.answers.set('/token', { status: 200, body: { access_token: 'a0', token_type: 'Bearer', id_token, ...more } })
      const query = new URLSearchParams({ code: 'c', state: sent.get('state') ?? '', iss: op.issuer })
      const cookie = begun.cookies.map((line) => line.split(';')[0]).join('; ')
      const { cookies } = await ask(rp, 'GET', `/auth/callback?${query}`, { cookie })
      return cookies.map((line) => line.split(';')[0] ?? '').find((pair) => !pair.endsWith('=')) ?? ''
    },
    answerRefresh(more) {
      op.answers.set('/token', { status: 200, body: { token_type: 'Bearer', ...more } })
    },
    refreshed: () =>
      op.posted
        .filter(({ form }) => form.get('grant_type') === 'refresh_token')
        .map(({ form }) => form.get('refresh_token')),
    async close() {
      for (const one of nodes) await one.close()
      await store.close()
      await op.close()
    },
  }
}

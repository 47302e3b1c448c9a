import * as oidc from 'openid-client'
import { LockstepError } from '../protocol/errors.ts'
import { alarm } from '../runtime/alarm.ts'
import { type RpContext, seconds } from './context.ts'
import { signedIdToken } from './decrypt-token.ts'
import { findRpSession } from './find-session.ts'
import { messageOf } from './log.ts'
import { askOp } from './redeem-code.ts'
import { type GrantedToken, grantAfter, grantOf, openRefreshToken, sealRefreshToken } from './refresh-token.ts'
import { renewSid } from './renew-sid.ts'
import { saveRefreshed } from './save-refreshed.ts'
import type { FoundRpSession, StoredRefreshToken, StoredRpSession } from './store/contract.ts'
import { lifeOf, openTokens, type RpTokens } from './tokens.ts'

/**
 * Milliseconds for which one process may refresh. A refresh token that is used twice may cost the user the grant, so this
 * outlasts all that is done with it: {@link BEGIN}, the OP's 5 s for its answer, and twice 8 s for writing down what came.
 */
const LEASE = 30_000
/** Milliseconds of these within which the OP is asked; whoever is later (it stood still, the OP was hard to find) asks for the right again. */
const BEGIN = 5_000
/** Milliseconds between looks at what another process has got; its hint usually comes first. */
const LOOK = 500

/** Hands out access tokens that are good for a while. */
export interface TokenRefresher {
  accessToken(cookie: string | undefined): Promise<string | undefined>
}

type Refreshable = StoredRpSession & { readonly refreshToken: StoredRefreshToken }

/** What an RP session has to offer: a token, the need to refresh it, or nothing. */
type Offer =
  | { readonly state: 'good'; readonly accessToken: string }
  | { readonly state: 'stale'; readonly session: Refreshable; readonly tokens: RpTokens }
  | { readonly state: 'none' }

/**
 * Makes a refresher. In one process, requests that want the same token wait for one refresh; between processes the store
 * gives the right to refresh to one of them, and the others read what it got.
 */
export function createTokenRefresher<Data>(context: RpContext<Data>): TokenRefresher {
  const flights = new Map<string, Promise<string | undefined>>()
  return {
    async accessToken(cookie) {
      const header = (name: string) => (name === 'cookie' ? cookie : undefined)
      const known = await findRpSession(context, { header })
      if (known === undefined) return undefined
      const { handle, found } = known
      const offer = await offerOf(context, found)
      if (offer.state !== 'stale') return offer.state === 'good' ? offer.accessToken : undefined
      const flight = flights.get(handle) ?? refreshOnce(context, handle).finally(() => flights.delete(handle))
      flights.set(handle, flight)
      return flight
    },
  }
}

async function look<Data>(context: RpContext<Data>, handle: string): Promise<Offer> {
  return offerOf(context, await context.store.get(handle))
}

async function offerOf<Data>(context: RpContext<Data>, found: FoundRpSession | undefined): Promise<Offer> {
  const tokens = found?.state === 'alive' ? await openTokens(context, found.session) : undefined
  if (found?.state !== 'alive' || tokens === undefined) return { state: 'none' }
  const { expiresAt, refreshAt } = tokens.accessTokenLife ?? { expiresAt: Infinity, refreshAt: Infinity }
  const now = seconds(context)
  if (now < refreshAt) return { state: 'good', accessToken: tokens.accessToken }
  const { refreshToken } = found.session
  if (refreshToken !== undefined) return { state: 'stale', session: { ...found.session, refreshToken }, tokens }
  return now < expiresAt ? { state: 'good', accessToken: tokens.accessToken } : { state: 'none' }
}

/** Refreshes, or waits until another process has. */
async function refreshOnce<Data>(context: RpContext<Data>, handle: string): Promise<string | undefined> {
  const { store, options } = context
  const bell = alarm(options.runtime)
  const unsubscribe = await store.subscribe(handle, bell.ring)
  try {
    const until = options.runtime.now() + LEASE + BEGIN
    while (options.runtime.now() < until) {
      const claimedAt = options.runtime.now()
      const isOurs = await store.claimRefresh(handle, LEASE)
      // Read after the claim: whoever had it before may have just saved what we want.
      const offer = await look(context, handle)
      if (offer.state !== 'stale') return offer.state === 'good' ? offer.accessToken : undefined
      const result = isOurs ? await refresh(context, offer, claimedAt) : { state: 'late' as const }
      if (result.state === 'done') return result.accessToken
      await bell.sleep(LOOK)
    }
    throw new LockstepError('op_unreachable', 'another process is still refreshing the access token')
  } finally {
    unsubscribe()
  }
}

/** `late` when it was too late to ask the OP. */
type RefreshResult = { readonly state: 'done'; readonly accessToken: string | undefined } | { readonly state: 'late' }

async function refresh<Data>(
  context: RpContext<Data>,
  { session, tokens }: Extract<Offer, { state: 'stale' }>,
  claimedAt: number,
): Promise<RefreshResult> {
  const { store, sealer, op, options } = context
  const done = (accessToken: string | undefined): RefreshResult => ({ state: 'done', accessToken })
  const token = await openRefreshToken(sealer, session.refreshToken.sealed)
  if (token === undefined) {
    return done(await giveUp(context, session, 'no secret opens the refresh token any more'))
  }
  /** The right to refresh, at once, so that the next request may try; unless it may be another's by now. */
  const giveBack = async (): Promise<void> => {
    const isOurs = options.runtime.now() < claimedAt + LEASE
    if (isOurs) await store.saveTokens(session.handle, session, session.refreshToken.sealed)
  }
  const requestedAt = await store.now()
  let answer: Refreshed
  try {
    const configuration = await op.configuration()
    if (options.runtime.now() > claimedAt + BEGIN) {
      await giveBack()
      return { state: 'late' }
    }
    answer = await ask(context, configuration, token.refreshToken, session.sub)
  } catch (error) {
    if (!(error instanceof LockstepError)) throw error
    if (error.cause instanceof oidc.ResponseBodyError && error.cause.error === 'invalid_grant') {
      return done(await giveUp(context, session, messageOf(error)))
    }
    await giveBack()
    if (seconds(context) < (tokens.accessTokenLife?.expiresAt ?? 0)) return done(tokens.accessToken)
    throw error
  }
  const learnt = { sid: answer.tokens.claims()?.sid, requestedAt, from: 'grant' } as const
  await saveRefreshed(context, () => renewSid(context, session, learnt))
  return done(await save(context, session, { tokens, token }, answer)) // refused where it has ended meanwhile
}

interface Refreshed {
  readonly tokens: Awaited<ReturnType<typeof oidc.refreshTokenGrant>>
  /** The signed ID Token, where a new one came. */
  readonly idToken: string | undefined
}

async function ask<Data>(
  { options }: RpContext<Data>,
  configuration: oidc.Configuration,
  refreshToken: string,
  expectedSub: string,
): Promise<Refreshed> {
  const tokens = await askOp('Token Endpoint', () => oidc.refreshTokenGrant(configuration, refreshToken))
  // Core §12.2: a new ID Token names the same End-User.
  if ((tokens.claims()?.sub ?? expectedSub) !== expectedSub) {
    throw new LockstepError('op_answer_invalid', 'the refreshed ID Token is of somebody else')
  }
  const { id_token: sent } = tokens
  return { tokens, idToken: sent === undefined ? undefined : await signedIdToken(sent, options.decryptionKeys) }
}

async function save<Data>(
  context: RpContext<Data>,
  session: Refreshable,
  before: { readonly tokens: RpTokens; readonly token: GrantedToken },
  { tokens: answer, idToken = before.tokens.idToken }: Refreshed,
): Promise<string | undefined> {
  const { store, sealer, options, revoker } = context
  const { access_token: accessToken, refresh_token: rotated } = answer
  const tokens: RpTokens = { idToken, accessToken, ...lifeOf(answer.expires_in, seconds(context)) }
  const used = session.refreshToken
  const known = before.token.grant ?? grantOf(session.sub, session.sid)
  const grant = grantAfter(known, answer.claims()?.sid)
  const isSame = rotated === undefined && grant === known
  const sealed = isSame ? used.sealed : await sealRefreshToken(sealer, rotated ?? before.token.refreshToken, grant)
  const refreshToken = { ...used, sealed }
  const renewed = { tokens: await sealer.seal('tokens', tokens), refreshToken }
  const result = await saveRefreshed(context, () => store.saveTokens(session.handle, renewed, used.sealed))
  if (result === 'saved') return accessToken
  // Both are of one grant, which goes on: what the slower one got is not revoked, and not kept.
  if (result === 'outdated') return usableToken(context, session.handle)
  options.log({ event: 'refresh_refused', message: 'the RP session ended while its tokens were refreshed' })
  revoker.wake()
  return undefined
}

/** The OP takes this refresh token no more: nobody asks with it again, and the access token is used while it lasts. */
async function giveUp<Data>(
  context: RpContext<Data>,
  session: Refreshable,
  message: string,
): Promise<string | undefined> {
  context.options.log({ event: 'refresh_refused', message })
  await context.store.saveTokens(session.handle, { tokens: session.tokens }, session.refreshToken.sealed)
  return usableToken(context, session.handle)
}

async function usableToken<Data>(context: RpContext<Data>, handle: string): Promise<string | undefined> {
  const offer = await look(context, handle)
  return offer.state === 'good' ? offer.accessToken : undefined
}

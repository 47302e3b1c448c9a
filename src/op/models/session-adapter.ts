import oidcProvider, { type Adapter, type AdapterPayload, errors, type KoaContextWithOIDC } from 'oidc-provider'
import { meantBy, noteRotated } from '../op-cookie.ts'
import { unrecordedClient } from '../record-login.ts'
import { sealState, unsealState } from '../secrets/sealed-state.ts'
import type { LoggedInRp, OpIssuerStore, OpSession, OpSessionWrite } from '../store/contract.ts'
import { isUnattended } from '../unseen.ts'
import { handleOf, MARK, storedHandle } from './handles.ts'
import { interactionOf } from './interaction-at-hand.ts'
import { unsupported } from './unsupported.ts'

/** How long OP sessions may live. */
export interface SessionLifetime {
  /** Seconds from the login to the end of the OP session, however busy it is. */
  readonly absolute: number
}

/** What keeping sessions takes beside the store. */
export interface SessionAdapterParts {
  readonly now: () => number
  readonly lifetime: SessionLifetime
}

/**
 * How oidc-provider's sessions are kept: merged with what other requests wrote meanwhile, and never brought back once they
 * ended.
 */
export function sessionAdapter(store: OpIssuerStore, { now, lifetime }: SessionAdapterParts): Adapter {
  return {
    ...unsupported,
    async upsert(id, payload, expiresIn = 0) {
      const { jti: _id, uid, accountId, authorizations = {}, exp: _exp, state, ...rest } = payload
      if (!uid) throw new TypeError('oidc-provider saved a Session without uid')
      const seconds = Math.floor(now() / 1000)
      const unrecorded = unrecordedClient(oidcProvider.ctx)
      const outcome = await store.saveOpSession({
        uid,
        handle: storedHandle(id),
        ...(accountId === undefined ? {} : { accountId }),
        ...(await payloadOf(uid, id, rest, state)),
        rps: Object.entries(authorizations).flatMap((entry) => (entry[0] === unrecorded ? [] : toLoggedInRp(entry))),
        expiresAt: Math.min(seconds + expiresIn, (payload.loginTs ?? seconds) + lifetime.absolute),
        extend: !isUnattended(oidcProvider.ctx),
        ...loginOf(oidcProvider.ctx),
      })
      if (outcome === 'stale') noteRotated(oidcProvider.ctx)
      if (outcome === 'ended') {
        const session = oidcProvider.ctx?.oidc?.session
        if (session) session.destroyed = true // else oidc-provider saves it once more, outside its error handler
        throw new errors.LoginRequired('the OP session ended while this request was under way')
      }
    },
    async find(id) {
      const meant = await meantBy(handleOf(id), store)
      if (meant.state === 'rotated') noteRotated(oidcProvider.ctx)
      if (meant.state !== 'live') return undefined
      const { session } = meant
      const { state } = session.payload
      const opened = typeof state === 'string' ? await unsealState(state, id) : undefined
      noteRead({ id, session, state: opened })
      return { ...toPayload(session, id), ...(opened && { state: opened }) }
    },
    async findByUid(uid) {
      const session = await store.getOpSession({ uid })
      if (!session) return undefined
      noteRead({ id: MARK + session.handle, session, state: undefined })
      return toPayload(session, MARK + session.handle)
    },
    // oidc-provider destroys an id only when it gives the session a new one; an end takes the road of end-session.ts
    async destroy(id) {
      await store.retireHandle(storedHandle(id))
    },
  }
}

/** An OP session as a request read it. */
interface SessionRead {
  readonly id: string
  readonly session: OpSession
  /** Opened. */
  readonly state: AdapterPayload['state']
}

/** The OP sessions that a request has read, by uid. */
const read: WeakMap<object, Map<string, SessionRead>> = new WeakMap()

function noteRead(found: SessionRead): void {
  const { ctx } = oidcProvider
  if (!ctx) return
  const known = read.get(ctx) ?? new Map<string, SessionRead>()
  read.set(ctx, known.set(found.session.uid, found))
}

/** What a request says of an OP session, and what it read of it: what lies between is all that it changes. */
async function payloadOf(
  uid: string,
  id: string,
  rest: Readonly<Record<string, unknown>>,
  state: AdapterPayload['state'],
): Promise<Pick<OpSessionWrite, 'payload' | 'base'>> {
  const found = oidcProvider.ctx && read.get(oidcProvider.ctx)?.get(uid)
  const { state: sealed, ...base } = found?.session.payload ?? {}
  const isUntouched = found?.id === id && JSON.stringify(state) === JSON.stringify(found.state)
  const now = isUntouched ? sealed : state && (await sealState(state, id))
  return {
    payload: { ...rest, ...(now === undefined ? {} : { state: now }) },
    ...(found && { base: { ...base, ...(sealed === undefined ? {} : { state: sealed }) } }),
  }
}

function toLoggedInRp([clientId, entry]: [
  string,
  NonNullable<AdapterPayload['authorizations']>[string],
]): LoggedInRp[] {
  if (!entry.sid) return []
  const grant = entry.grantId === undefined ? {} : { grantId: entry.grantId }
  return [{ clientId, sid: entry.sid, ...grant, persistsLogout: entry.persistsLogout === true }]
}

function toPayload(session: OpSession, jti: string): AdapterPayload {
  const authorizations = session.rps.map(({ clientId, sid, grantId, persistsLogout }) => [
    clientId,
    { sid, ...(grantId === undefined ? {} : { grantId }), ...(persistsLogout ? { persistsLogout } : {}) },
  ])
  const { state: _sealed, ...payload } = session.payload
  return {
    ...payload,
    jti,
    uid: session.uid,
    exp: session.expiresAt,
    ...(session.accountId === undefined ? {} : { accountId: session.accountId }),
    ...(authorizations.length > 0 ? { authorizations: Object.fromEntries(authorizations) } : {}),
  }
}

/** A login is as old as the interaction in which it was made: `endAll` may have come in between (T2). */
function loginOf(ctx: KoaContextWithOIDC | undefined): Pick<OpSessionWrite, 'login'> {
  const interaction = interactionOf(ctx)
  if (!interaction || !ctx?.oidc?.result?.login) return {}
  return { login: { since: interaction.since, interaction: interaction.handle } }
}

import { hash } from 'node:crypto'
import oidcProvider, { type Adapter, type AdapterPayload, errors, type KoaContextWithOIDC } from 'oidc-provider'
import { meantBy, noteRotated } from './op-cookie.ts'
import { revokesOneByOne } from './provider-seam.ts'
import { unrecordedClient } from './record-login.ts'
import { sealState, unsealState } from './secrets/sealed-state.ts'
import type { KeptModel, LoggedInRp, OpIssuerStore, OpSession, OpSessionWrite, StoredModel } from './store/contract.ts'
import { type BearerKey, keepsBearers, openBearers, sealBearers } from './stored-bearers.ts'
import { isUnattended } from './unseen.ts'

/** How long OP sessions may live. */
export interface SessionLifetime {
  /** Seconds from the login to the end of the OP session, however busy it is. */
  readonly absolute: number
}

/** What the storage adapter needs beside the store. */
export interface ModelAdapterParts {
  readonly now: () => number
  readonly lifetime: SessionLifetime
  readonly bearerKey: BearerKey
}

/**
 * Builds oidc-provider's storage adapter on the OP store: bearer values go in as SHA-256 and never come out again; the few
 * that must come out go in encrypted (T6).
 */
export function modelAdapter(store: OpIssuerStore, parts: ModelAdapterParts): (kind: string) => Adapter {
  return (kind) => (kind === 'Session' ? sessionAdapter(store, parts) : plainAdapter(store, kind, parts.bearerKey))
}

/** What the store keeps instead of a bearer value. */
export function handleOf(value: string): string {
  return hash('sha256', value, 'base64url')
}

/* A session that was found by its uid has no cookie value to show, so it carries its stored handle behind this mark.
   `find` never reads the mark: a handle stolen from a database dump opens nothing. */
const MARK = '~'

function sessionHandle(id: string): string {
  return id.startsWith(MARK) ? id.slice(MARK.length) : handleOf(id)
}

function sessionAdapter(store: OpIssuerStore, { now, lifetime }: ModelAdapterParts): Adapter {
  return {
    ...unsupported,
    async upsert(id, payload, expiresIn = 0) {
      const { jti: _id, uid, accountId, authorizations = {}, exp: _exp, state, ...rest } = payload
      if (!uid) throw new TypeError('oidc-provider saved a Session without uid')
      const seconds = Math.floor(now() / 1000)
      const unrecorded = unrecordedClient(oidcProvider.ctx)
      const outcome = await store.saveOpSession({
        uid,
        handle: sessionHandle(id),
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
      await store.retireHandle(sessionHandle(id))
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

/** The interaction that a request goes on with. */
const interactions: WeakMap<object, KeptModel> = new WeakMap()

/** A login is as old as the interaction in which it was made: `endAll` may have come in between (T2). */
function loginOf(ctx: KoaContextWithOIDC | undefined): Pick<OpSessionWrite, 'login'> {
  const interaction = ctx && interactions.get(ctx)
  if (!interaction || !ctx.oidc?.result?.login) return {}
  return { login: { since: interaction.since, interaction: interaction.handle } }
}

function plainAdapter(store: OpIssuerStore, kind: string, bearerKey: BearerKey): Adapter {
  const hasBearers = keepsBearers(kind) // what has none takes the short way: tokens are written and read with each request
  return {
    ...unsupported,
    async upsert(id, payload) {
      await store.putModel(toModel(kind, id, hasBearers ? await sealBearers(kind, payload, bearerKey) : payload))
    },
    async find(id) {
      const model = await store.getModel(kind, { handle: isOfInteraction(id) ? modelHandle(id) : handleOf(id) })
      if (!model) return undefined
      if (kind === 'Interaction' && oidcProvider.ctx) interactions.set(oidcProvider.ctx, model)
      const payload = fromModel(model, id)
      return hasBearers ? openBearers(kind, payload, bearerKey) : payload
    },
    async findByUserCode(userCode) {
      const model = await store.getModel(kind, { alias: handleOf(userCode) })
      return model && { ...fromModel(model, MARK + model.handle), userCode }
    },
    async consume(id) {
      await store.consumeModel(kind, modelHandle(id))
    },
    async destroy(id) {
      if (kind === 'Grant' && revokesOneByOne(currentRoute())) return
      await store.deleteModel(kind, modelHandle(id))
    },
    async revokeByGrantId(grantId) {
      if (revokesOneByOne(currentRoute())) return
      await store.deleteModelsByGrant(kind, grantId)
    },
  }
}

const modelHandle: (id: string) => string = sessionHandle

/** What names a model that an Interaction leads to, a device code or a pushed request, in a store that must not hold it. */
function marked(id: string): string {
  return id.startsWith(MARK) ? id : MARK + handleOf(id)
}

/** The browser that has the Interaction may go on with what it names; whoever only knows the marked handle may not. */
function isOfInteraction(id: string): boolean {
  if (!id.startsWith(MARK) || !oidcProvider.ctx) return false
  const { payload } = interactions.get(oidcProvider.ctx) ?? {}
  return payload?.deviceCode === id || payload?.parJti === id
}

function currentRoute(): string | undefined {
  return oidcProvider.ctx?.oidc?.route
}

/* An interaction carries its own id in `returnTo` and the OP cookie's value in `session.cookie`; neither may be stored. */
const OWN_ID = ':own-id'

function toModel(kind: string, id: string, payload: AdapterPayload): StoredModel {
  const { jti: _id, exp, returnTo, session, userCode, deviceCode, parJti, ...rest } = payload
  const { cookie: _cookie, ...visibleSession } = session ?? {}
  return {
    kind,
    handle: modelHandle(id),
    payload: {
      ...rest,
      ...(returnTo === undefined ? {} : { returnTo: returnTo.replaceAll(id, OWN_ID) }),
      ...(session === undefined ? {} : { session: visibleSession }),
      ...(typeof deviceCode === 'string' ? { deviceCode: marked(deviceCode) } : {}),
      ...(typeof parJti === 'string' ? { parJti: marked(parJti) } : {}),
    },
    ...(exp === undefined ? {} : { expiresAt: exp }),
    ...grantOf(kind, id, payload),
    ...ownerOf(kind, payload),
    ...(userCode === undefined ? {} : { alias: modelHandle(userCode) }),
  }
}

/** The grant a model falls with. An interaction only mentions one: in a user switch it outlives the old user's grant. */
function grantOf(kind: string, id: string, { grantId }: AdapterPayload): Pick<StoredModel, 'grantId'> {
  if (kind === 'Grant') return { grantId: id }
  return grantId === undefined || kind === 'Interaction' ? {} : { grantId }
}

/** Whose a model is. An interaction is nobody's until somebody has signed in there. */
function ownerOf(kind: string, payload: AdapterPayload): Pick<StoredModel, 'accountId' | 'clientId'> {
  const { accountId, clientId } =
    kind === 'Interaction' ? { accountId: payload.result?.login?.accountId, clientId: undefined } : payload
  return {
    ...(accountId === undefined ? {} : { accountId }),
    ...(clientId === undefined ? {} : { clientId }),
  }
}

function fromModel(model: StoredModel, jti: string): AdapterPayload {
  const { returnTo, ...payload } = model.payload
  return {
    ...payload,
    jti,
    ...(typeof returnTo === 'string' ? { returnTo: returnTo.replaceAll(OWN_ID, jti) } : {}),
    ...(model.expiresAt === undefined ? {} : { exp: model.expiresAt }),
    ...(model.alias === undefined ? {} : { userCode: MARK + model.alias }),
  }
}

const refuse = async (): Promise<never> => {
  throw new Error('oidc-provider called a storage method that this model does not have')
}
const unsupported: Adapter = {
  upsert: refuse,
  find: refuse,
  findByUserCode: refuse,
  findByUid: refuse,
  consume: refuse,
  destroy: refuse,
  revokeByGrantId: refuse,
}

import oidcProvider, { type Adapter, type AdapterPayload } from 'oidc-provider'
import { revokesOneByOne } from '../provider-seam.ts'
import type { OpIssuerStore, StoredModel } from '../store/contract.ts'
import { type BearerKey, keepsBearers, openBearers, sealBearers } from '../stored-bearers.ts'
import { handleOf, MARK, storedHandle } from './handles.ts'
import { interactionOf, noteInteraction } from './interaction-at-hand.ts'
import { unsupported } from './unsupported.ts'

/** How oidc-provider's models are kept that are no sessions: each as it is, found by a hash. */
export function plainAdapter(store: OpIssuerStore, kind: string, bearerKey: BearerKey): Adapter {
  const hasBearers = keepsBearers(kind) // what has none takes the short way: tokens are written and read with each request
  return {
    ...unsupported,
    async upsert(id, payload) {
      await store.putModel(toModel(kind, id, hasBearers ? await sealBearers(kind, payload, bearerKey) : payload))
    },
    async find(id) {
      const model = await store.getModel(kind, { handle: isOfInteraction(id) ? storedHandle(id) : handleOf(id) })
      if (!model) return undefined
      if (kind === 'Interaction') noteInteraction(oidcProvider.ctx, model)
      const payload = fromModel(model, id)
      return hasBearers ? openBearers(kind, payload, bearerKey) : payload
    },
    async findByUserCode(userCode) {
      const model = await store.getModel(kind, { alias: handleOf(userCode) })
      return model && { ...fromModel(model, MARK + model.handle), userCode }
    },
    async consume(id) {
      await store.consumeModel(kind, storedHandle(id))
    },
    async destroy(id) {
      if (kind === 'Grant' && revokesOneByOne(currentRoute())) return
      await store.deleteModel(kind, storedHandle(id))
    },
    async revokeByGrantId(grantId) {
      if (revokesOneByOne(currentRoute())) return
      await store.deleteModelsByGrant(kind, grantId)
    },
  }
}

/** What names a model that an Interaction leads to, a device code or a pushed request, in a store that must not hold it. */
function marked(id: string): string {
  return id.startsWith(MARK) ? id : MARK + handleOf(id)
}

/** The browser that has the Interaction may go on with what it names; whoever only knows the marked handle may not. */
function isOfInteraction(id: string): boolean {
  if (!id.startsWith(MARK)) return false
  const { payload } = interactionOf(oidcProvider.ctx) ?? {}
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
    handle: storedHandle(id),
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
    ...(userCode === undefined ? {} : { alias: storedHandle(userCode) }),
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

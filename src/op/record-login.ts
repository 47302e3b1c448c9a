import { errors, type Grant, type KoaContextWithOIDC } from 'oidc-provider'
import { LockstepError } from '../protocol/errors.ts'
import type { OpIssuerStore } from './store/contract.ts'

type LoadGrant = (ctx: KoaContextWithOIDC) => Promise<Grant | undefined> | Grant | undefined

/**
 * Records which RP got which `sid` and grant in which OP session, before any code leaves.
 *
 * Several tabs may log in at one RP at the same moment, each with a grant of its own; the first one recorded wins for
 * all of them, so that every code redeems and the RP knows one `sid` (stock oidc-provider lets the last write win, and
 * the other codes are dead). What the later grants add is merged into the winning one.
 */
export async function recordLogin(
  store: OpIssuerStore,
  ctx: KoaContextWithOIDC,
  grant: Grant,
  newSid: () => string,
): Promise<Grant> {
  const { session, provider, result } = ctx.oidc
  const clientId = ctx.oidc.client?.clientId
  if (!session || !clientId) return grant
  if (!grant.jti) await grant.save()

  const known = session.sidFor(clientId)
  if (known && session.grantIdFor(clientId) === grant.jti) return grant

  const freshConsent = result?.consent?.grantId === grant.jti && session.grantIdFor(clientId) !== undefined
  const claim = { clientId, sid: known ?? newSid(), grantId: grant.jti }
  const winner = await claimLogin(store, session.uid, claim, freshConsent)
  session.sidFor(clientId, winner.sid)
  if (winner.grantId === grant.jti) return grant

  const winning = await provider.Grant.find(winner.grantId)
  if (!winning) {
    await claimLogin(store, session.uid, { ...claim, sid: winner.sid }, true)
    return grant
  }
  mergeGrant(winning, grant)
  await winning.save()
  await grant.destroy()
  return winning
}

async function claimLogin(
  store: OpIssuerStore,
  ...claim: Parameters<OpIssuerStore['claimLogin']>
): ReturnType<OpIssuerStore['claimLogin']> {
  try {
    return await store.claimLogin(...claim)
  } catch (error) {
    if (error instanceof LockstepError && error.code === 'op_session_ended') {
      throw new errors.LoginRequired('the OP session ended while this request was under way')
    }
    throw error
  }
}

function mergeGrant(into: Grant, from: Grant): void {
  const scope = from.getOIDCScope()
  if (scope) into.addOIDCScope(scope)
  const claims = from.getOIDCClaims()
  if (claims.length > 0) into.addOIDCClaims(claims)
  for (const resource of Object.keys(from.resources ?? {})) {
    const resourceScope = from.getResourceScope(resource)
    if (resourceScope) into.addResourceScope(resource, resourceScope)
  }
}

/** oidc-provider's default: the grant that the consent just made, else the one this OP session has for the client. */
export const loadSessionGrant: LoadGrant = async (ctx) => {
  const { session, client, result, provider } = ctx.oidc
  const grantId = result?.consent?.grantId ?? (client && session?.grantIdFor(client.clientId))
  return grantId ? provider.Grant.find(grantId) : undefined
}

import { errors, type Grant, interactionPolicy, type KoaContextWithOIDC } from 'oidc-provider'
import { LockstepError } from '../protocol/errors.ts'
import type { OpIssuerStore } from './store/contract.ts'

/** Requests whose login was recorded. */
const recorded: WeakSet<object> = new WeakSet()

/**
 * Records which RP got which `sid` and grant in which OP session, before any code leaves.
 *
 * Several tabs may log in at one RP at the same moment, each with a grant of its own; the first one recorded wins for
 * all of them, so that every code redeems and the RP knows one `sid` (stock oidc-provider lets the last write win, and
 * the other codes are dead). What the later grants add is merged into the winning one.
 */
export async function recordLogin(store: OpIssuerStore, ctx: KoaContextWithOIDC): Promise<void> {
  const { session, client, grant, provider } = ctx.oidc
  const sid = client && session?.sidFor(client.clientId)
  if (!session?.accountId || !sid || !grant?.jti) return
  const { clientId } = client
  const claim = { clientId, sid, grantId: grant.jti }
  for (let replaces = replacedBy(ctx, grant); ; ) {
    const winner = await claimLogin(store, session.uid, claim, replaces)
    session.sidFor(clientId, winner.sid)
    if (winner.grantId === grant.jti) break
    const winning = await provider.Grant.find(winner.grantId)
    if (winning) {
      mergeGrant(winning, grant)
      await winning.save()
      session.grantIdFor(clientId, winning.jti)
      ctx.oidc.entity('Grant', winning)
      break
    }
    replaces = winner.grantId // it has expired
  }
  recorded.add(ctx)
}

/**
 * The step of oidc-provider's interaction policy that records the login: the last one, so that an RP to which the login
 * is refused is never told of a logout.
 */
export function recordingPrompt(record: (ctx: KoaContextWithOIDC) => Promise<void>): interactionPolicy.Prompt {
  const { Check, Prompt } = interactionPolicy
  const check = new Check('login_unrecorded', 'the login must be recorded', async (ctx) => {
    await record(ctx)
    return Check.NO_NEED_TO_PROMPT
  })
  return new Prompt({ name: 'lockstep_record_login' }, check)
}

/** The RP whose login this request asks for and has not recorded; oidc-provider lists it in the OP session all the same. */
export function unrecordedClient(ctx: KoaContextWithOIDC | undefined): string | undefined {
  return ctx && !recorded.has(ctx) ? ctx.oidc?.client?.clientId : undefined
}

/** The older grant that a consent, given anew in its sight, takes the place of, since it may grant less; `undefined` for none. */
function replacedBy({ oidc }: KoaContextWithOIDC, grant: Grant): string | undefined {
  const seen = oidc.entities.Interaction?.grantId
  return oidc.result?.consent?.grantId === grant.jti ? seen : undefined
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

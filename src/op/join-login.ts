import type { AdapterPayload, KoaContextWithOIDC } from 'oidc-provider'
import { handleOf } from './models/handles.ts'
import { meantBy } from './op-cookie.ts'
import { resumedInteraction } from './provider-seam.ts'
import type { OpIssuerStore } from './store/contract.ts'

/** What it takes to find the OP session a login goes on in. */
export interface JoinLoginParts {
  readonly store: Pick<OpIssuerStore, 'getOpSession' | 'getRotated' | 'getModel'>
  /** The value of the request's OP cookie. */
  readonly cookie: string | undefined
  /** Uids of the OP sessions that were begun in the browser of a request. */
  readonly browserLogins: () => Promise<readonly string[]>
}

/**
 * The OP session, by its uid, that a login goes on in although its OP cookie opens none: another tab of the browser was faster.
 * The login must have begun there, or be, just now, of the account that is signed in there; so who planted a cookie before a
 * login gets nothing by it.
 */
export async function joinedOpSession(
  ctx: KoaContextWithOIDC,
  { store, cookie, browserLogins }: JoinLoginParts,
): Promise<string | undefined> {
  const interactionId = resumedInteraction(ctx)
  if (interactionId === undefined) return undefined
  const interaction = await store.getModel('Interaction', { handle: handleOf(interactionId) })
  const { session: begun, result }: Partial<AdapterPayload> = interaction?.payload ?? {}
  const meant = cookie === undefined ? undefined : await meantBy(handleOf(cookie), store)
  if (meant?.state === 'rotated') {
    const { uid, accountId = result?.login?.accountId } = meant.session // of nobody yet: the other tab is about to save
    if (begun?.uid === uid || (result?.login !== undefined && accountId === result.login.accountId)) return uid
  }
  if (result?.login === undefined) return undefined
  for (const uid of await browserLogins()) {
    const session = await store.getOpSession({ uid })
    if (session?.accountId === result.login.accountId) return uid
  }
  return undefined
}

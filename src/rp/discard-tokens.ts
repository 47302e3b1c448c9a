import type { RpContext } from './context.ts'
import { messageOf } from './log.ts'
import type { Redeemed } from './redeem-code.ts'
import { type GrantedToken, grantOf, sealGranted } from './refresh-token.ts'
import { revokeUnlessInUse } from './revoke-tokens.ts'

/**
 * Gives the refresh token of a login that comes to nothing back to the OP: nobody will ever use it (T7).
 *
 * This is done before the browser is sent on. The login that it begins next may get the same grant at the OP, and with a
 * revocation that comes later its tokens would go too. What the OP does not take now is owed to it, and so is what the store
 * cannot judge now: whether a live RP session has the same grant.
 */
export async function discardTokens<Data>(
  { op, store, sealer, revoker, options }: RpContext<Data>,
  { refreshToken, claims: { sub, sid } }: Redeemed,
): Promise<void> {
  if (refreshToken === undefined) return
  const discarded: GrantedToken = { refreshToken, grant: grantOf(sub, sid) }
  const failure = await revokeUnlessInUse({ store, op }, discarded)
  if (failure === undefined) return
  options.log({ event: 'revocation_failed', attempts: 1, message: messageOf(failure) })
  try {
    await store.owe(await sealGranted(sealer, discarded))
    revoker.wake()
  } catch (error) {
    options.log({ event: 'revocation_given_up', attempts: 1, message: messageOf(error) })
  }
}

import type { RpContext } from './context.ts'
import { messageOf } from './log.ts'
import type { Redeemed } from './redeem-code.ts'
import { type Discarded, isGrantInUse, revoke } from './revoke-tokens.ts'

/**
 * Gives the refresh token of a login that comes to nothing back to the OP: nobody will ever use it (T7).
 *
 * This is done before the browser is sent on. The login that it begins next may get the same grant at the OP, and with a
 * revocation that comes later its tokens would go too. What the OP does not take now is owed to it. Where an RP session with
 * the same grant is alive, nothing is revoked: its own refresh token will be, when it ends.
 */
export async function discardTokens<Data>(
  { op, store, sealer, revoker, options }: RpContext<Data>,
  { refreshToken, claims: { sub, sid } }: Redeemed,
): Promise<void> {
  if (refreshToken === undefined) return
  const discarded: Discarded = { refreshToken, sub, ...(typeof sid === 'string' && { sid }) }
  // A store that cannot be read has let nobody in: the token must not be left behind.
  if (await isGrantInUse(store, discarded).catch(() => false)) return
  const failure = await revoke(refreshToken, op)
  if (failure === undefined) return
  options.log({ event: 'revocation_failed', attempts: 1, message: messageOf(failure) })
  try {
    await store.owe(await sealer.seal('refresh-token', discarded))
    revoker.wake()
  } catch (error) {
    options.log({ event: 'revocation_given_up', attempts: 1, message: messageOf(error) })
  }
}

import type { RpContext } from './context.ts'
import { messageOf } from './log.ts'

/** Milliseconds between attempts: eight seconds in all, which the right to refresh outlasts. */
const PAUSES = [100, 400, 1_000, 2_500, 4_000]

/**
 * Writes down what the OP has given for a refresh token, again and again while the store fails: the old one is worthless by
 * now, and to use it twice may cost the grant. If it comes to nothing, that is logged, and the RP session goes on without
 * tokens as soon as the OP refuses the old refresh token.
 *
 * @throws what the last attempt threw
 */
export async function saveRefreshed<Data, Result>(
  { options: { runtime, log } }: RpContext<Data>,
  save: () => Promise<Result>,
): Promise<Result> {
  for (const pause of PAUSES) {
    try {
      return await save()
    } catch (error) {
      log({ event: 'internal_error', route: 'refresh', message: messageOf(error) })
    }
    await runtime.sleep(pause)
  }
  try {
    return await save()
  } catch (error) {
    log({ event: 'tokens_not_saved', message: messageOf(error) })
    throw error
  }
}

import type { SessionStatus } from '../protocol/session-state.ts'
import type { AliveDocument } from './decide.ts'
import { happened, messageFrom, PATIENCE, pause, visible } from './wait.ts'
import type { BrowserWorld } from './world.ts'

/** Milliseconds between an answer and the next question. */
const INTERVAL = 2_000

/**
 * Makes the source that polls the page at `check_session_iframe`. It says that something may have changed, never what.
 *
 * It is put to the proof first: the answer right after the page has loaded must be `unchanged`. Where the browser
 * withholds the OP's cookies some OPs answer `changed` for ever, and believing them would sign everybody out, or loop. Where
 * prompt=none is known to work, it may look into such a first `changed` once.
 * After an `error` it never asks again (Session §3.1), nor where prompt=none could not look into a `changed`.
 *
 * Each tab that is looked at has its own OP iframe: hidden tabs are slowed down by the browser, so one of them could not
 * watch for the others.
 *
 * @returns What asks until the signal aborts or the OP iframe proves unusable. It asks about the RP session that
 * `current` returns; `findOut` has the OP asked by prompt=none, and the next question waits for it. That is for a
 * `changed`, and once per RP session for an `unchanged`, while nobody knows yet whether it would work.
 */
export function opIframeWatcher(
  world: BrowserWorld,
): (
  current: () => AliveDocument | undefined,
  findOut: (signal: AbortSignal) => Promise<void>,
  signal: AbortSignal,
) => Promise<void> {
  /** Of the OP iframe; unknown until its first answer, and null while prompt=none looks into a first `changed`. */
  let works: boolean | null | undefined

  /** Public name of the RP session in which prompt=none was tried. */
  let tried: string | undefined

  return async (current, findOut, signal) => {
    await visible(world, signal)
    // An app that has not found its OP yet names the page later.
    while (!current()?.check_session_iframe && !signal.aborted) await pause(world, INTERVAL, signal)
    const { check_session_iframe: url, session_state } = current() ?? {}
    const isUsable = () => works !== false && current()?.silent_check !== 'refused' && !signal.aborted
    if (!url || !session_state || !isUsable()) return

    const frame = world.openFrame(url)
    const { origin } = new URL(url)
    // A frame that the page's own policy refuses never loads in Firefox.
    await Promise.race([happened(frame, 'load', signal), pause(world, PATIENCE, signal)])
    while (isUsable()) {
      await visible(world, signal)
      const session = current()
      const answer = messageFrom(world, frame, origin, readStatus, signal)
      frame.contentWindow?.postMessage(`${session?.client_id} ${session?.session_state}`, origin)
      const status = await answer
      if (signal.aborted) break
      // A page that was loaded after the change hears of it at once; prompt=none may look into that where it works.
      const mayLook = works !== null && session?.silent_check === 'works' && null
      works = status !== 'error' && (works || status === 'unchanged' || (status === 'changed' && mayLook))
      if (!isUsable()) break
      const isNew = session?.silent_check === 'unknown' && session.session !== tried && status === 'unchanged'
      if (isNew || status === 'changed') {
        tried = session?.session
        await findOut(signal)
      }
      await pause(world, INTERVAL, signal)
    }
    frame.remove()
  }
}

function readStatus(data: unknown): SessionStatus | undefined {
  return (['unchanged', 'changed', 'error'] as const).find((status) => status === data)
}

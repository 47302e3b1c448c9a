import type { SessionStatus } from '../protocol/session-state.ts'
import type { AliveDocument } from './decide.ts'
import { INTERVAL, messageFrom, PATIENCE, pause, visible } from './wait.ts'
import type { BrowserWorld, Frame } from './world.ts'

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
 * `changed`, and for an `unchanged` while nobody knows yet whether it would work.
 */
export function opIframeWatcher(
  world: BrowserWorld,
  verdict: { sees?: unknown },
): (
  current: () => AliveDocument | undefined,
  findOut: (changed: boolean, signal: AbortSignal) => Promise<void>,
  signal: AbortSignal,
) => Promise<void> {
  /** Of the OP iframe; unknown until its first answer, and null while prompt=none looks into a first `changed`. */
  let works: boolean | null | undefined

  return async (current, findOut, signal) => {
    let frame: Frame | undefined
    while (works !== false && !signal.aborted) {
      await visible(world, signal)
      const { check_session_iframe: url, client_id, session_state, silent_check } = current() ?? {}
      if (silent_check === 'refused') break
      let origin: string | undefined
      try {
        origin = new URL(url!).origin
      } catch {
        // no URL: an app that has not found its OP yet names the page later
      }
      if (origin && session_state) {
        if (!frame) {
          frame = world.openFrame(url!)
          // A frame that the page's own policy refuses never loads in Firefox.
          await pause(world, PATIENCE, signal, frame, 'load')
          // Meanwhile another tab may have found a new session_state.
          continue
        }
        const answer = messageFrom(world, frame, origin, readStatus, signal)
        frame.contentWindow?.postMessage(`${client_id} ${session_state}`, origin)
        const status = await answer
        if (signal.aborted) break
        // A page that was loaded after the change hears of it at once; prompt=none may look into that where it works.
        const changed = status === 'changed'
        if (changed && works === undefined && silent_check === 'works') works = null
        else works = status !== 'error' && (works || status === 'unchanged')
        verdict.sees = works && status
        if (works === false) break
        if (changed || (status && silent_check === 'unknown')) await findOut(changed, signal)
      }
      await pause(world, INTERVAL, signal)
    }
    frame?.remove()
  }
}

function readStatus(data: unknown): SessionStatus | undefined {
  return (['unchanged', 'changed', 'error'] as const).find((status) => status === data)
}

import type { SessionStatus } from '../protocol/session-state.ts'
import type { AliveDocument } from './decide.ts'
import { happened, messageFrom, pause, visible } from './wait.ts'
import type { BrowserWorld } from './world.ts'

/** Milliseconds between an answer and the next question. */
const INTERVAL = 2_000
/** Milliseconds to wait for the page and for each of its answers: a busy machine takes seconds over the first. */
const PATIENCE = 10_000

/**
 * Makes the source that polls the page at `check_session_iframe`. It says that something may have changed, never what.
 *
 * It is put to the proof first: the answer right after the page has loaded must be `unchanged`. Where the browser
 * withholds the OP's cookies some OPs answer `changed` for ever, and believing them would sign everybody out, or loop.
 * After an `error` it never asks again (Session §3.1).
 *
 * Each tab that is looked at has its own OP iframe: hidden tabs are slowed down by the browser, so one of them could not
 * watch for the others.
 *
 * @returns What asks until the signal aborts or the OP iframe proves unusable. It asks about the RP session that
 * `current` returns; `changed` finds out what has changed, and the next question waits for it.
 */
export function opIframeWatcher(
  world: BrowserWorld,
): (current: () => AliveDocument | undefined, changed: () => Promise<void>, signal: AbortSignal) => Promise<void> {
  let verdict: 'untried' | 'works' | 'unusable' = 'untried'

  return async (current, changed, signal) => {
    await visible(world, signal)
    while (!current() && !signal.aborted) await pause(world, INTERVAL, signal)
    const { check_session_iframe: url, session_state } = current() ?? {}
    if (!url || !session_state || verdict === 'unusable' || signal.aborted) return

    const frame = world.openFrame(url)
    const { origin } = new URL(url)
    // A frame that the page's own policy refuses never loads in Firefox.
    await Promise.race([happened(frame, 'load', signal), pause(world, PATIENCE, signal)])
    while (!signal.aborted) {
      await visible(world, signal)
      const session = current()
      const answer = messageFrom(world, frame, origin, readStatus, PATIENCE, signal)
      frame.contentWindow?.postMessage(`${session?.client_id} ${session?.session_state}`, origin)
      const status = await answer
      if (signal.aborted) break
      if (status === 'error' || (verdict === 'untried' && status !== 'unchanged')) {
        verdict = 'unusable'
        break
      }
      verdict = 'works'
      if (status === 'changed') await changed()
      await pause(world, INTERVAL, signal)
    }
    frame.remove()
  }
}

function readStatus(data: unknown): SessionStatus | undefined {
  return (['unchanged', 'changed', 'error'] as const).find((status) => status === data)
}

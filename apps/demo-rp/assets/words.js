// What an ended session is called in words. Values in, values out.

const CAUSES = {
  rp_initiated: 'You signed out here at ',
  this_app: 'You signed out of this app only, at ',
  expired: 'Your sign-in ran out at ',
  silent_check: 'You signed out elsewhere; this was noticed at ',
  user_switched: 'Somebody else signed in in this browser at ',
  admin: 'Your sign-in was ended at ',
}

const SOURCES = {
  push: 'by push',
  iframe: 'by asking the sign-in service',
  poll: 'by asking this app',
}

/** What is added when the session of this browser is another person's by now. */
export const SOMEBODY_ELSE = 'Somebody else is signed in in this browser now.'

/** The sentence for the detail of a `lockstep:ended` event, in the parts around its time. */
export function endWords({ ended, heardBy, heardAt }) {
  const at = new Date(ended.at_ms ?? ended.at * 1000)
  const before = ended.by ? `You signed out of ${ended.by} at ` : (CAUSES[ended.cause] ?? 'Your sign-in ended at ')
  const time = at.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false })
  const delay = ended.at_ms === undefined ? -1 : heardAt - ended.at_ms
  // A number stays on the line of its unit.
  const span = sinceWords(delay).replace(' ', '\u00a0')
  const after = delay < 0 ? '.' : `; this tab knew ${span} later, ${SOURCES[heardBy] ?? 'by itself'}.`
  return { at, before, time, after }
}

/** An age, in whole seconds at least: what is shown changes once a second. */
export function ageWords(ms) {
  return sinceWords(Math.max(0, Math.floor(ms / 1000)) * 1000).replace(/^0 ms$/, '0 s')
}

/** A span of milliseconds as people say it. */
export function sinceWords(ms) {
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`
  if (ms < 100_000) return `${Math.round(ms / 1000)} s`
  if (ms < 5_400_000) return `${Math.round(ms / 60_000)} min`
  return `${Math.round(ms / 3_600_000)} h`
}

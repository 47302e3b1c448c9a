/**
 * The ready-made monitor an RP serves, bundled to `dist/served/session-monitor.js`:
 * `<script type="module" src="/auth/session-monitor.js" data-on-ended="reload"></script>`.
 *
 * What the monitor says reaches the page as events of `document`: `lockstep:alive`, `lockstep:unknown`,
 * `lockstep:userswitched`, `lockstep:ended`.
 */
import { pageLeaver } from './leave-page.ts'
import { watchBackend } from './session-monitor.ts'
import { browserWorld } from './world.ts'

const beside = (path: string): string => new URL(path, import.meta.url).href
const world = browserWorld()
const { onEnded = 'reload', signedIn = '' } =
  [...document.scripts].find(({ src }) => src === import.meta.url)?.dataset ?? {}
const leave = pageLeaver(
  world,
  () => sessionStorage,
  () => {
    // A page that answered a form is asked for by GET from here on: Chromium would send the form again, Firefox would ask.
    history.replaceState(history.state, '')
    if (onEnded === 'reload') location.reload()
    else location.assign(onEnded)
  },
)

watchBackend(
  {
    session: beside('session'),
    events: beside('session/events'),
    silentCheck: beside('silent-check'),
    checkInterval: 300,
    sub: signedIn,
  },
  world,
  (detail) => {
    document.dispatchEvent(new CustomEvent(`lockstep:${detail.type}`, { detail }))
    if (detail.type === 'ended' && onEnded !== 'event') leave(detail)
  },
)

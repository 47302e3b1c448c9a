/**
 * The ready-made monitor an RP serves, bundled to `dist/served/session-monitor.js`:
 * `<script type="module" src="/auth/session-monitor.js" data-on-ended="reload"></script>`.
 *
 * What the monitor says reaches the page as events of `document`: `lockstep:alive`, `lockstep:unknown`,
 * `lockstep:userswitched`, `lockstep:ended`.
 */
import { pageLeaver } from './leave-page.ts'
import type { SessionMonitorEvents } from './session-events.ts'
import { watchBackend } from './session-monitor.ts'
import { browserWorld } from './world.ts'

const here = import.meta.url
const beside = (path: string): string => new URL(path, here).href
const world = browserWorld()
const monitor = watchBackend(
  {
    session: beside('session'),
    events: beside('session/events'),
    silentCheck: beside('silent-check'),
    checkInterval: 300,
  },
  world,
)

for (const type of ['alive', 'unknown', 'userswitched', 'ended'] satisfies (keyof SessionMonitorEvents)[]) {
  monitor.addEventListener(type, ({ detail }: CustomEvent) =>
    document.dispatchEvent(new CustomEvent(`lockstep:${type}`, { detail })),
  )
}

const script = [...document.scripts].find(({ src }) => src === here)
const onEnded = script?.dataset.onEnded ?? 'reload'
const leave = pageLeaver(
  world,
  () => sessionStorage,
  () => (onEnded === 'reload' ? location.reload() : location.assign(onEnded)),
)
if (onEnded !== 'event') monitor.addEventListener('ended', leave)

/**
 * The ready-made monitor an RP serves, bundled to `dist/served/session-monitor.js`:
 * `<script type="module" src="/auth/session-monitor.js" data-on-ended="reload"></script>`.
 *
 * What the monitor says reaches the page as events of `document`: `lockstep:alive`, `lockstep:unknown`,
 * `lockstep:userswitched`, `lockstep:ended`.
 */
import { leaveOnce } from './leave-once.ts'
import { type SessionMonitorEvents, startSessionMonitor } from './session-monitor.ts'

const here = import.meta.url
const script = [...document.scripts].find(({ src }) => src === here)
const monitor = startSessionMonitor({
  session: new URL('session', here).href,
  events: new URL('session/events', here).href,
  silentCheck: new URL('silent-check', here).href,
})

const types: readonly (keyof SessionMonitorEvents)[] = ['alive', 'unknown', 'userswitched', 'ended']
for (const type of types) {
  monitor.addEventListener(type, ({ detail }: CustomEvent) => {
    document.dispatchEvent(new CustomEvent(`lockstep:${type}`, { detail }))
  })
}

const onEnded = script?.dataset.onEnded ?? 'reload'
monitor.addEventListener('ended', ({ detail }) => {
  if (onEnded === 'reload') leaveOnce(detail, () => location.reload())
  else if (/^\/(?![/\\])/.test(onEnded)) leaveOnce(detail, () => location.assign(onEnded))
})

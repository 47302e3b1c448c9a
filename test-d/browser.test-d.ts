import { type SessionEnd, type SessionMonitor, type SessionMonitorOptions, startSessionMonitor } from 'lockstep/browser'

const monitor = startSessionMonitor({ checkInterval: 60 })
monitor satisfies SessionMonitor
monitor.state satisfies 'unknown' | 'none' | 'alive' | 'ended'
void (monitor.check() satisfies Promise<void>)

monitor.addEventListener('ended', ({ detail }) => {
  detail.ended satisfies SessionEnd
  detail.session satisfies string
  detail.heardBy satisfies 'push' | 'iframe' | 'poll'
  // @ts-expect-error who is signed in is told by `alive` only
  void detail.sub
})

const onAlive = ({ detail }: CustomEvent<{ session: { sub: string } }>) => detail.session.sub
monitor.addEventListener('alive', onAlive)
monitor.removeEventListener('alive', onAlive)

// @ts-expect-error the state is told, not set
monitor.state = 'ended'
// @ts-expect-error `unknown` says nothing about an end
monitor.addEventListener('unknown', ({ detail }) => detail.ended)

const misspelt: SessionMonitorOptions = {
  // @ts-expect-error there is no such option
  sessions: '/auth/session',
}
void misspelt

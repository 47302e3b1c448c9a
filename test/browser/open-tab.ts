import { afterEach } from 'vitest'
import type { AliveDocument } from '../../src/browser/decide.ts'
import type { SessionMonitorOptions } from '../../src/browser/options.ts'
import type { SessionMonitor, SessionMonitorEvents } from '../../src/browser/session-events.ts'
import { startSessionMonitor } from '../../src/browser/session-monitor.ts'
import type { SessionDocument, SessionEnd } from '../../src/protocol/session-document.ts'
import { type FakeWorld, type FakeWorldOptions, fakeWorld, settle } from './fake-world.ts'

export const alive: AliveDocument = {
  state: 'alive',
  session: 's1',
  sub: 'ada',
  client_id: 'notes',
  expires_at: 1_900_000_000,
}
export const signedOut: SessionEnd = { cause: 'logout_token', at: 1_800_000_000, by: 'Mail' }
export const ended: SessionDocument = { state: 'ended', session: 's1', ended: signedOut }

/** What a monitor has told its page: the event's name and its detail. */
export type Told = {
  [Type in keyof SessionMonitorEvents]: { type: Type } & SessionMonitorEvents[Type]
}[keyof SessionMonitorEvents]

export interface Tab {
  readonly monitor: SessionMonitor
  readonly world: FakeWorld
  readonly told: Told[]
  types(): string[]
}

const running: SessionMonitor[] = []
afterEach(async () => {
  for (const monitor of running.splice(0)) monitor.stop()
  await settle()
})

/** Opens a page with a monitor and waits until it has settled; it is stopped after the test. */
export async function openTab(
  backend: FakeWorldOptions['backend'],
  options: Partial<FakeWorldOptions> = {},
): Promise<Tab> {
  return watch(fakeWorld({ backend, ...options }))
}

export async function watch(world: FakeWorld, options: SessionMonitorOptions = {}): Promise<Tab> {
  const monitor = startSessionMonitor(options, world)
  running.push(monitor)
  const told: Told[] = []
  const listen = <Type extends keyof SessionMonitorEvents>(type: Type) =>
    monitor.addEventListener(type, ({ detail }) => told.push({ type, ...detail } as Told))
  listen('alive')
  listen('unknown')
  listen('userswitched')
  listen('ended')
  await settle()
  return { monitor, world, told, types: () => told.map(({ type }) => type) }
}

import { setTimeout as wait } from 'node:timers/promises'
import { afterEach } from 'vitest'
import { type SilentAnswer, type SpaMonitor, startSpaMonitor } from '../../src/browser/spa-monitor.ts'
import { type FakeWorld, fakeWorld, freshPage, settle } from './fake-world.ts'

export const opIframe = 'https://op.example/session/check'
export const noBackend: { fetch: () => Promise<Response> } = {
  fetch: () => Promise.reject(new Error('this page has no backend')),
}
export const ada: SilentAnswer = { sub: 'ada', sessionState: 'one.salt' }
export const refused = (): Promise<never> => Promise.reject(new Error('the OP is away'))

/** What an OP says in a page: to its iframe, and to prompt=none. */
export interface FakeOp {
  status: string | undefined | ((message: string) => string | undefined)
  silently: () => Promise<SilentAnswer | undefined>
  silentChecks: number
}

export function fakeOp(): FakeOp {
  return { status: 'unchanged', silently: async () => ada, silentChecks: 0 }
}

/** The same End-User has signed in anew: only that `session_state` is unchanged from now on. */
export function signInAnew(op: FakeOp, sessionState = 'two.salt'): void {
  op.status = (message) => (message === `spa ${sessionState}` ? 'unchanged' : 'changed')
  op.silently = async () => ({ sub: 'ada', sessionState })
}

export function aStorage(): Pick<Storage, 'getItem' | 'setItem'> {
  const entries = new Map<string, string>()
  return {
    getItem: (key) => entries.get(key) ?? null,
    setItem: (key, value) => void entries.set(key, value),
  }
}

export interface SpaPage {
  readonly world: FakeWorld
  readonly monitor: SpaMonitor
  readonly told: string[]
}

const running: SpaMonitor[] = []
afterEach(async () => {
  for (const monitor of running.splice(0)) monitor.stop()
  await settle()
})

export interface SpaPageOptions {
  readonly baseUrl?: string
  readonly proved?: boolean
  readonly sub?: string
  readonly sessionState?: string
  readonly storage?: Pick<Storage, 'getItem' | 'setItem'>
  readonly tabs?: boolean
}

/** Opens a page without a backend and waits until it has settled; its monitor is stopped after the test. */
export async function openSpa(
  op: FakeOp,
  {
    baseUrl = freshPage(),
    proved = false,
    sub = 'ada',
    sessionState = 'one.salt',
    storage = aStorage(),
    tabs = true,
  }: SpaPageOptions = {},
): Promise<SpaPage> {
  const world = fakeWorld({
    backend: noBackend,
    baseUrl,
    answer: (message) => (typeof op.status === 'function' ? op.status(message) : op.status),
    random: () => 1,
    tabs,
  })
  const monitor = startSpaMonitor(
    {
      clientId: 'spa',
      sub,
      sessionState,
      checkSessionIframe: opIframe,
      proved,
      storage,
      silentCheck() {
        op.silentChecks += 1
        return op.silently()
      },
    },
    world,
  )
  running.push(monitor)
  const told: string[] = []
  for (const type of ['alive', 'unknown', 'userswitched', 'ended'] as const) {
    monitor.addEventListener(type, () => told.push(type))
  }
  await settle()
  return { world, monitor, told }
}

/** Lets the time of several pages go by, in which they hear each other: the channels between them are the real ones. */
export async function passTogether(pages: readonly Pick<SpaPage, 'world'>[], ms: number, step = 200): Promise<void> {
  for (let gone = 0; gone < ms; gone += step) {
    await Promise.all(pages.map(({ world }) => world.advance(step)))
    await wait(3)
  }
}

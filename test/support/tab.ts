import { Agent, type RequestInit as UndiciInit, fetch as undiciFetch } from 'undici'
import type { BrowserWorld } from '../../src/browser/world.ts'
import { type SessionMonitor, type SessionMonitorEvents, startSessionMonitor } from '../../src/browser.ts'
import type { UserAgent } from './user-agent.ts'

/** An open tab of an app: the real monitor, whose requests carry the browser's cookies. */
export interface Tab {
  readonly monitor: SessionMonitor
  /** The next event of that name. */
  next<Type extends keyof SessionMonitorEvents>(type: Type): Promise<SessionMonitorEvents[Type]>
  close(): Promise<void>
}

/** Opens a tab at a page of an app; only what a browser would add around the monitor is made up here. */
export function openTab(agent: UserAgent, pageUrl: string): Tab {
  const dispatcher = new Agent({
    connect: {
      // Like a browser: every name under localhost is this machine.
      lookup: (_host, { all }, callback) =>
        all ? callback(null, [{ address: '127.0.0.1', family: 4 }]) : callback(null, '127.0.0.1', 4),
    },
  })
  const world: BrowserWorld = {
    now: () => Date.now(),
    random: () => Math.random(),
    after(ms, task) {
      const timer = setTimeout(task, ms)
      return () => clearTimeout(timer)
    },
    async fetch(url, init) {
      const cookie = agent
        .cookies(url)
        .map(({ name, value }) => `${name}=${value}`)
        .join('; ')
      const headers = { ...(init.headers as Record<string, string>), cookie, 'sec-fetch-site': 'same-origin' }
      const answer = await undiciFetch(url, { ...(init as UndiciInit), headers, dispatcher })
      return new Response(answer.body as ReadableStream<Uint8Array<ArrayBuffer>> | null, {
        status: answer.status,
        headers: [...answer.headers],
      })
    },
    window: new EventTarget(),
    document: Object.assign(new EventTarget(), { baseURI: pageUrl, hidden: false }),
    openFrame: () => Object.assign(new EventTarget(), { contentWindow: null, remove: () => {} }),
    arbiter: undefined,
    openChannel: (name) => new BroadcastChannel(name),
  }
  const monitor = startSessionMonitor({}, world)
  return {
    monitor,
    next: (type) =>
      new Promise((resolve) => monitor.addEventListener(type, (event) => resolve(event.detail), { once: true })),
    async close() {
      monitor.stop()
      await dispatcher.destroy()
    },
  }
}

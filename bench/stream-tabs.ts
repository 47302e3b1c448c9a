/* Tabs that do nothing but listen, in a process of their own. Started by streams.ts. */
import { Agent, get, type IncomingMessage } from 'node:http'
import { COOKIE_SUFFIX, cookieOf } from './stream-sessions.ts'

/**
 * `open` opens the tabs of RP sessions from one number up to another, `heard` waits until all tabs of an RP session know that
 * it has ended, `cut` breaks all connections, `ended` says which RP sessions have tabs that were told so.
 */
export type TabsOrder =
  | { readonly open: readonly [number, number] }
  | { readonly heard: number }
  | { readonly cut: true }
  | { readonly ended: true }

/** When the last tab of an RP session heard, in milliseconds of the epoch, and how long after it had connected. */
export interface Heard {
  readonly at: number
  readonly afterOpening: number
}

interface Tab {
  readonly session: number
  readonly stream: IncomingMessage
  readonly ended: Promise<Heard>
  isEnded(): boolean
}

/** How many connections are being opened at a time. */
const ABREAST = 200

const agent = new Agent({ keepAlive: true, maxSockets: Number.POSITIVE_INFINITY })
const now = (): number => performance.timeOrigin + performance.now()

const { ports, siblings } = JSON.parse(process.argv[2] ?? '{}') as {
  readonly ports: readonly number[]
  /** Tabs of one RP session at each port. */
  readonly siblings: number
}
const tabs = new Map<number, Tab[]>()

async function openTab(port: number, session: number): Promise<void> {
  const openedAt = now()
  const stream = await new Promise<IncomingMessage>((resolve, reject) => {
    const headers = { cookie: `__Host-lockstep-${COOKIE_SUFFIX}=${cookieOf(session)}` }
    get({ agent, host: '127.0.0.1', port, path: '/auth/session/events', headers }, resolve).on('error', reject)
  })
  if (stream.statusCode !== 200) throw new Error(`a stream was answered ${stream.statusCode}`)
  const first = Promise.withResolvers<void>()
  const ended = Promise.withResolvers<Heard>()
  let hasEnded = false
  stream.on('error', () => undefined) // cut by us
  stream.setEncoding('utf8').on('data', (text: string) => {
    if (text.includes('"state":"ended"')) {
      hasEnded = true
      ended.resolve({ at: now(), afterOpening: now() - openedAt })
    }
    first.resolve()
  })
  const tab = { session, stream, ended: ended.promise, isEnded: () => hasEnded }
  tabs.set(session, [...(tabs.get(session) ?? []), tab])
  await first.promise
}

async function openAll([from, to]: readonly [number, number]): Promise<number> {
  const wanted: [number, number][] = []
  for (let session = from; session < to; session++) {
    for (const port of ports) for (let i = 0; i < siblings; i++) wanted.push([port, session])
  }
  const count = wanted.length
  const worker = async (): Promise<void> => {
    for (let next = wanted.shift(); next; next = wanted.shift()) await openTab(...next)
  }
  await Promise.all(Array.from({ length: ABREAST }, worker))
  return count
}

async function obey(order: TabsOrder): Promise<unknown> {
  if ('open' in order) return openAll(order.open)
  if ('heard' in order) {
    const all = await Promise.all((tabs.get(order.heard) ?? []).map((tab) => tab.ended))
    return {
      at: Math.max(...all.map(({ at }) => at)),
      afterOpening: Math.max(...all.map(({ afterOpening }) => afterOpening)),
    } satisfies Heard
  }
  if ('cut' in order) {
    for (const group of tabs.values()) for (const { stream } of group) stream.destroy()
    tabs.clear()
    return undefined
  }
  return [...tabs].filter(([, group]) => group.some((tab) => tab.isEnded())).map(([session]) => session)
}

process.on('message', async (order: TabsOrder) => {
  process.send?.({ answer: await obey(order) })
})
process.on('disconnect', () => process.exit(0))
process.send?.({ answer: 'ready' })

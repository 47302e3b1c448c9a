import { Agent, get, type IncomingMessage } from 'node:http'
import { afterEach, describe, expect, it } from 'vitest'
import { BACKCHANNEL_LOGOUT_EVENT } from '../../src/protocol/logout-token.ts'
import { namesOf } from '../../src/rp/session-id.ts'
import { createRelyingParty } from '../../src/rp.ts'
import { auth } from '../../src/rp-node.ts'
import { redisStore } from '../../src/rp-redis.ts'
import { world } from '../../src/runtime/runtime.ts'
import { someSession } from '../../src/testing/rp-store-bench.ts'
import { startFakeOp } from '../rp/fake-op.ts'
import { listen, shut } from '../rp/support.ts'
import { hasRedis, startRedis } from '../support/redis.ts'

/** Real connections, over both nodes. `npm run test:many-tabs` has 10,000: that needs `ulimit -n` of 21,000 or more. */
const TABS = Number(process.env.LOCKSTEP_TABS ?? 200)
/** Tabs of one RP session, on each node. */
const SIBLINGS = 2

const cleanup: (() => unknown)[] = []
afterEach(async () => {
  for (const step of cleanup.splice(0).reverse()) await step()
})

/** What a tab has heard, by the state of each event. */
interface Tab {
  readonly session: number
  readonly heard: string[]
}

describe.runIf(hasRedis)('open tabs on two nodes', () => {
  it(`that are ${TABS}: exactly those of the ended RP session hear of it, on both [T17, T18]`, async () => {
    const redis = await startRedis()
    const op = await startFakeOp()
    cleanup.push(
      () => redis.close(),
      () => op.close(),
    )
    const nodes = await Promise.all([1, 2].map(() => startNode(op.issuer, redis.port)))
    const [first] = nodes
    const now = Math.floor(Date.now() / 1000)
    const sessions = TABS / (nodes.length * SIBLINGS)
    const times = { createdAt: now, firstIat: now, idleExpiresAt: now + 3_600, expiresAt: now + 86_400 }
    for (let i = 0; i < sessions; i++) {
      const session = someSession({ ...namesOf(idOf(i)), sid: `s${i}`, sub: `u${i}`, ...times })
      await first?.sessions.create(session, { requestedAt: now * 1000 })
    }
    const agent = new Agent({ keepAlive: true, maxSockets: Number.POSITIVE_INFINITY })
    cleanup.push(() => agent.destroy())
    let wake = (): void => undefined
    const tabs: Tab[] = []
    for (let i = 0; i < sessions; i++) {
      const opened = nodes.flatMap(({ port }) =>
        Array.from({ length: SIBLINGS }, async () => {
          const tab: Tab = { session: i, heard: [] }
          const stream = await openStream(agent, port, i)
          await new Promise<void>((resolve) => {
            stream.setEncoding('utf8').on('data', (text: string) => {
              for (const [, state = ''] of text.matchAll(/"state":"(\w+)"/g)) tab.heard.push(state)
              resolve()
              wake()
            })
          })
          tabs.push(tab)
        }),
      )
      await Promise.all(opened)
    }
    expect(tabs).toHaveLength(TABS)
    expect(tabs.every(({ heard }) => new Set(heard).size === 1 && heard[0] === 'alive')).toBe(true)

    const ended = Math.floor(sessions / 2)
    const family = tabs.filter(({ session }) => session === ended)
    const allHeard = new Promise<void>((resolve) => {
      wake = () => {
        if (family.every(({ heard }) => heard.at(-1) === 'ended')) resolve()
      }
    })
    const events = { [BACKCHANNEL_LOGOUT_EVENT]: {} }
    const claims = { iss: op.issuer, aud: 'notes', iat: now, exp: now + 120, jti: 'one', sid: `s${ended}`, events }
    const logout_token = await op.mint(claims)
    const startedAt = performance.now()
    const answer = await fetch(`http://127.0.0.1:${first?.port}/auth/backchannel-logout`, {
      method: 'POST',
      body: new URLSearchParams({ logout_token }),
    })
    expect([answer.status, answer.headers.get('logout-sessions-ended')]).toEqual([200, '1'])
    await allHeard
    console.log(
      `${TABS} open tabs: the last of ${family.length} heard ${Math.round(performance.now() - startedAt)} ms after the POST`,
    )
    expect(family).toHaveLength(nodes.length * SIBLINGS)
    expect(tabs.filter(({ heard }) => heard.includes('ended'))).toHaveLength(family.length)
  }, 600_000)
})

function idOf(i: number): string {
  return String(i).padStart(43, 'x')
}

async function startNode(issuer: string, port: number) {
  const store = redisStore({ host: '127.0.0.1', port })
  const rp = createRelyingParty({
    issuer,
    clientId: 'notes',
    clientSecret: 's',
    appUrl: 'https://notes.example',
    cookieSuffix: 'notes',
    store,
    log: () => {},
  })
  const serve = auth(rp)
  const listening = await listen((req, res) => void serve(req, res))
  cleanup.push(async () => {
    await rp.close()
    await shut(listening.server)
    await store.close()
  })
  return { port: listening.port, sessions: store.forClient({ issuer, clientId: 'notes' }, world) }
}

function openStream(agent: Agent, port: number, i: number): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const headers = { cookie: `__Host-lockstep-notes=${idOf(i)}` }
    get({ agent, host: '127.0.0.1', port, path: '/auth/session/events', headers }, resolve).on('error', reject)
  })
}

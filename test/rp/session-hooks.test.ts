import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { BACKCHANNEL_LOGOUT_EVENT } from '../../src/protocol/logout-token.ts'
import type { SessionEnd } from '../../src/protocol/session-document.ts'
import { namesOf } from '../../src/rp/session-id.ts'
import { createRelyingParty, type RelyingParty, type RpLogEvent, type RpSessionStore } from '../../src/rp.ts'
import { memoryStore } from '../../src/rp-memory.ts'
import { opened, START, someSession } from '../../src/testing/rp-store-bench.ts'
import { type FakeOp, startFakeOp } from './fake-op.ts'
import { ask, postForm } from './plain-request.ts'
import { createVirtualTime, type VirtualTime } from './virtual-time.ts'

let op: FakeOp
let time: VirtualTime
let sessions: RpSessionStore
const nodes: RelyingParty[] = []
const log: RpLogEvent[] = []
const heard: [string, SessionEnd['cause']][] = []
let hook: (id: string) => void | Promise<void> = () => undefined

beforeEach(async () => {
  op = await startFakeOp()
  time = createVirtualTime(START * 1000)
  log.length = heard.length = 0
  hook = () => undefined
  const store = memoryStore()
  sessions = store.forClient({ issuer: op.issuer, clientId: 'notes' }, time)
  for (let node = 0; node < 2; node++) {
    nodes.push(
      createRelyingParty({
        issuer: op.issuer,
        clientId: 'notes',
        clientSecret: 'the client secret',
        appUrl: 'https://notes.example',
        cookieSuffix: 'notes',
        store,
        runtime: time,
        log: (event) => log.push(event),
        onSessionEnded: ({ id }, { cause }) => {
          heard.push([id, cause])
          return hook(id)
        },
      }),
    )
  }
})

afterEach(async () => {
  for (const node of nodes.splice(0)) await node.close()
  await op.close()
})

let count = 0

async function logOut(rp: RelyingParty, claims: Record<string, unknown>): Promise<number> {
  const events = { [BACKCHANNEL_LOGOUT_EVENT]: {} }
  const iat = time.now() / 1000
  const about = { iss: op.issuer, aud: 'notes', iat, exp: iat + 120, jti: `j${++count}`, events }
  return (await postForm(rp, '/auth/backchannel-logout', { logout_token: await op.mint({ ...about, ...claims }) }))
    .status
}

const id = 'x'.repeat(43)
const headers = { cookie: `__Host-lockstep-notes=${id}`, 'sec-fetch-site': 'same-origin' }

describe('onSessionEnded', () => {
  it('hears of an RP session once, however many logouts of it arrive at once and by whatever road, at both nodes', async () => {
    await opened(sessions, someSession({ ...namesOf(id), sid: 's' }))
    const frame = `/auth/frontchannel-logout?${new URLSearchParams({ iss: op.issuer, sid: 's' })}`
    await Promise.all(
      nodes.flatMap((node) => [
        ...Array.from({ length: 10 }, () => logOut(node, { sid: 's', sub: 'ada' })),
        logOut(node, { sub: 'ada' }),
        ask(node, 'GET', frame, { 'sec-fetch-dest': 'iframe' }),
        postForm(node, '/auth/logout', { from: 'this-app' }, headers),
        postForm(node, '/auth/logout', {}, headers),
        node.endSessions('ada'),
      ]),
    )
    expect(heard.map(([who]) => who)).toEqual([namesOf(id).publicId])
  })

  it('hears of each of those that one Logout Token ends, also where it fails for another; each failure is logged', async () => {
    const three = [someSession(), someSession(), someSession()]
    await opened(sessions, ...three)
    hook = async (who) => {
      if (who !== three[1]?.publicId) throw new Error(`no row for it`)
    }
    expect(await logOut(nodes[0] as RelyingParty, { sub: 'ada' })).toBe(200)
    const ids = three.map(({ publicId }) => publicId).toSorted()
    await vi.waitFor(() => expect(log.filter(({ event }) => event === 'hook_failed')).toHaveLength(2))
    expect(heard.map(([who]) => who).toSorted()).toEqual(ids)
    expect(log).toContainEqual({ event: 'hook_failed', hook: 'onSessionEnded', message: 'no row for it' })
  })

  it('holds up no answer to the OP, however long it takes', async () => {
    await opened(sessions, someSession({ sid: 's' }))
    hook = () => new Promise(() => {})
    expect(await logOut(nodes[0] as RelyingParty, { sid: 's' })).toBe(200)
    expect(heard).toHaveLength(1)
  })

  it('does not hear of an RP session that expired', async () => {
    await opened(sessions, someSession({ ...namesOf(id), sid: 's' }))
    await time.pass(3_601)
    await ask(nodes[0] as RelyingParty, 'GET', '/auth/session', headers)
    expect(await logOut(nodes[0] as RelyingParty, { sid: 's' })).toBe(200)
    expect(heard).toEqual([])
  })
})

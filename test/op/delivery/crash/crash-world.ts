import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { JSONWebKeySet } from 'jose'
import { expect } from 'vitest'
import { type OpStore, openSecrets } from '../../../../src/op.ts'
import { world } from '../../../../src/runtime/runtime.ts'
import { type Chance, chanceOf } from './chance.ts'
import { keyOf, type RpSession, violationsOf } from './history.ts'
import type { Notice, OpProcessParts, Order } from './op-process.ts'
import { type CrashRps, startCrashRps } from './rps.ts'

/** An OP process; whatever it confirmed is in the history. */
export interface OpProcess {
  readonly child: ChildProcess
  /** Asks for the end of an OP session and does not wait. */
  end(uid: string): void
  /** Ends it without a word, as a power cut does. */
  kill(): Promise<void>
  /** Ends it in order. */
  stop(): Promise<void>
}

/** A world of real processes, with all that is needed to say afterwards whether anything was lost. */
export interface CrashWorld {
  readonly chance: Chance
  readonly rps: CrashRps
  /** OP sessions that are to end, in order; as many again are left alone. */
  readonly uids: readonly string[]
  readonly acknowledged: ReadonlySet<string>
  /** Deliveries whose outcome a fence refused. */
  readonly refusedOutcomes: readonly string[]
  start(): Promise<OpProcess>
  /** Asks for the end of those not confirmed yet, until all are. */
  endAll(op: OpProcess, uids: readonly string[]): Promise<void>
  /** How many RP sessions have still to hear of an end that was confirmed. */
  untold(): number
  /** Waits until there are none. */
  told(): Promise<void>
  /** What went wrong, by the history. */
  violations(options: { mayOverlap: boolean }): string[]
  close(): Promise<void>
}

export interface CrashWorldParts {
  readonly seed: number
  readonly rps: number
  readonly logouts: number
  readonly store: OpProcessParts['store']
  /** Opens the same store in this process; it is closed again before an OP starts. */
  openStore(): OpStore
  readonly lease?: number
}

const issuer = 'https://op.example'
const bystanders = 5

/** A seed from outside to repeat a run with, else a new one; either is printed. */
export function seedOf(what: string): number {
  const seed = Number(process.env.CRASH_SEED ?? Math.floor(Math.random() * 2 ** 32))
  console.info(`${what}: CRASH_SEED=${seed}`)
  return seed
}

/** How often something is done: what CI has time for, times CRASH_TIMES (`npm run crash:full`). */
export function times(inCi: number): number {
  return Math.ceil(inCi * Number(process.env.CRASH_TIMES ?? 1))
}

export async function crashWorld({ seed, rps: count, logouts, ...parts }: CrashWorldParts): Promise<CrashWorld> {
  const chance = chanceOf(seed)
  const compiled = await mkdtemp(join(tmpdir(), 'lockstep-compiled-'))
  const store = parts.openStore()
  const { jwks } = await openSecrets(store, issuer)
  const rps = await startCrashRps(count, issuer, publicPart(jwks), chance)
  const rpSessions: RpSession[] = []
  const asked = new Map<string, number>()
  const acknowledged = new Set<string>()
  const refusedOutcomes: string[] = []
  const running = new Set<ChildProcess>()
  const watchers = new Set<() => void>()

  const all = Array.from({ length: logouts + bystanders }, (_, i) => `uid-${i}`)
  for (const uid of all) await signIn(uid)
  await store.close()

  async function signIn(uid: string): Promise<void> {
    const sessions = rps.clients.map(({ client_id: clientId }) => ({ clientId, sid: `sid ${uid} ${clientId}`, uid }))
    await store.forIssuer(issuer, world).saveOpSession({
      uid,
      handle: `handle ${uid}`,
      accountId: `account of ${uid}`,
      payload: {},
      rps: sessions.map(({ clientId, sid }) => ({ clientId, sid, grantId: `grant ${sid}`, persistsLogout: false })),
      expiresAt: Math.floor(world.now() / 1000) + 86_400,
      extend: true,
    })
    for (const session of sessions) {
      rpSessions.push(session)
      rps.add(session)
    }
  }

  function hear(notice: Notice): void {
    if (typeof notice === 'object') {
      if ('ended' in notice) acknowledged.add(notice.ended)
      if ('refusedOutcome' in notice) refusedOutcomes.push(notice.refusedOutcome)
    }
    for (const watch of watchers) watch()
  }

  const untold = (): number =>
    rpSessions.filter((session) => acknowledged.has(session.uid) && rps.alive.has(keyOf(session))).length

  return {
    chance,
    rps,
    uids: all.slice(0, logouts),
    acknowledged,
    refusedOutcomes,

    async start() {
      const script = new URL('op-process.ts', import.meta.url).pathname
      const setUp: OpProcessParts = {
        issuer,
        clients: rps.clients,
        store: parts.store,
        ...(parts.lease !== undefined && { lease: parts.lease }),
      }
      const child = fork(script, [JSON.stringify(setUp)], {
        execArgv: ['-C', '@lockstep/source'],
        env: { ...process.env, NODE_COMPILE_CACHE: compiled },
        stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
      })
      running.add(child)
      const gone = once(child, 'exit').finally(() => running.delete(child))
      child.on('message', hear)
      const send = (order: Order): void => void child.send(order, () => {}) // one that is dead hears nothing
      await Promise.race([once(child, 'message'), gone.then(() => expect.unreachable('the OP process did not start'))])
      return {
        child,
        end(uid) {
          if (!asked.has(uid)) asked.set(uid, Date.now())
          send({ end: uid })
        },
        async kill() {
          child.kill('SIGKILL')
          await gone
        },
        async stop() {
          send('stop')
          await gone
        },
      }
    },

    async endAll(op, uids) {
      const open = (): readonly string[] => uids.filter((uid) => !acknowledged.has(uid))
      while (open().length > 0) {
        for (const uid of open()) op.end(uid)
        await new Promise<void>((resolve) => {
          const waiting = new Set(open())
          const watch = (notice?: Notice): void => {
            if (typeof notice === 'object' && 'failed' in notice) waiting.delete(notice.failed)
            for (const uid of waiting) if (acknowledged.has(uid)) waiting.delete(uid)
            if (waiting.size > 0) return
            op.child.off('message', watch)
            resolve()
          }
          op.child.on('message', watch)
        })
      }
    },

    untold,

    async told() {
      await expect.poll(untold, { timeout: 300_000, interval: 100 }).toBe(0)
    },

    violations: ({ mayOverlap }) =>
      violationsOf({ rpSessions, asked, acknowledged, received: rps.received, alive: rps.alive, mayOverlap }),

    async close() {
      for (const child of running) {
        const gone = once(child, 'exit')
        child.kill('SIGKILL')
        await gone
      }
      await rps.close()
      await rm(compiled, { recursive: true })
    },
  }
}

function publicPart({ keys }: { readonly keys: readonly object[] }): JSONWebKeySet {
  const secret = new Set(['d', 'p', 'q', 'dp', 'dq', 'qi'])
  return {
    keys: keys.map((key) => Object.fromEntries(Object.entries(key).filter(([name]) => !secret.has(name)))),
  }
}

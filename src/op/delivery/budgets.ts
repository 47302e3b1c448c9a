import { createHash } from 'node:crypto'
import { hour } from '../../runtime/milliseconds.ts'
import { chance, type Runtime } from '../../runtime/runtime.ts'
import { createLatest } from '../latest.ts'
import type { OpLog } from '../log.ts'
import type { OpIssuerStore } from '../store/contract.ts'
import type { BackchannelOptions } from './backchannel-options.ts'
import { createRates } from './rates.ts'

/** What budgets are kept with. */
export interface BudgetParts {
  readonly store: Pick<OpIssuerStore, 'takeAttempt' | 'noteAnswered' | 'hasAnswered'>
  readonly runtime: Pick<Runtime, 'now' | 'random'>
  readonly options: Required<BackchannelOptions>
  readonly log: OpLog
}

/** The permission that an attempt at one RP asks for. */
export interface Admission {
  /**
   * Pays for one attempt that may lead to these addresses, before a packet leaves.
   *
   * @throws OverBudgetError when a budget has none left: the RP is held until `retryAt`.
   */
  admit(addresses: readonly string[]): Promise<void>
  /** The RP has answered with success; true when that is what its other deliveries were held for. */
  answered(): Promise<boolean>
}

/** No attempt was made, since a budget is used up. */
export class OverBudgetError extends Error {
  /** Epoch milliseconds. */
  readonly retryAt: number
  constructor(retryAt: number) {
    super('the budget of attempts is used up')
    this.name = 'OverBudgetError'
    this.retryAt = retryAt
  }
}

/** How many attempts an RP gets (T8). Times are epoch milliseconds. */
export interface Budgets {
  /** Attempts that may be started at an RP now. */
  room(clientId: string): number
  /** An attempt at an RP begins. */
  start(clientId: string): Turn
  /** Until when an RP waits for a budget, if it does. */
  heldUntil(clientId: string): number | undefined
  /** When one of the RPs that had no room may have some again. */
  nextAt(): number | undefined
  /** The RP was down and is back: it gets 1 attempt in the first second, then 2, 4, ... up to its rate. */
  ramp(clientId: string): void
  /** The clock was set back: what is kept here by it means nothing any more. */
  startOver(): void
}

/** One attempt at an RP, as its budgets see it. */
export interface Turn {
  /** What the RP needs before it, if it needs anything: `isRegistered` says that it registered itself. */
  admissionOf(receiver: { readonly url: string; readonly isRegistered: boolean }): Admission | undefined
  /** It is over, whether it was admitted or not. */
  end(): void
}

interface Hold {
  until: number
  /** Attempts that it has had here without an answer. */
  tries: number
  /** How often in a row it found a budget used up. */
  misses: number
  /** It has had to wait for its first answer, and the operator knows. */
  isReported?: true
}

/** Milliseconds between two looks for rates that have room again. */
const lookAgain = 50
/** Milliseconds after which the store hears again that a URI still answers: it forgets those that are silent for long. */
const noteAgain = 24 * hour

/**
 * Keeps the OP from being a weapon: whoever may register a client may name anybody's URL, and each failed delivery is tried
 * again for days.
 *
 * Each RP has its own rate. Clients that registered themselves share, besides, one rate per origin and one per address that
 * the connection leads to, so that a thousand of them get no more there than one. As long as a URI has not answered its
 * client with success, attempts come out of small hourly budgets in the store: the client's, the URI's, the origin's and the
 * addresses', all or none.
 *
 * Who finds a shared budget used up draws lots for its next turn; those that were tried less often here draw before the
 * others, so that a newcomer does not stand behind a crowd that never answers. Where an RP leads to is remembered, so that no
 * more of its deliveries are leased than its hosts have room for.
 */
export function createBudgets({ store, runtime, options, log }: BudgetParts): Budgets {
  let own = createRates(options.ratePerRp)
  let shared = createRates(options.ratePerHost)
  const holds = new Map<string, Hold>()
  /** RPs that were asked for and had used up their rate. */
  const waiting = new Set<string>()
  /** What the store knows to have answered, and when it was last told so by this worker; 0 for not yet. */
  const known = createLatest<number>()
  /** The origin and the addresses that the last attempt at an RP led to, and how many attempts are not yet admitted there. */
  const ways = createLatest<{ hosts: readonly string[]; pending: number }>()

  const freeAt = (hosts: readonly string[], now: number): number =>
    Math.max(now, ...hosts.map((host) => (shared.room(host, now) > 0 ? now : shared.nextAt(host, now))))

  function hold(clientId: string, from: number): OverBudgetError {
    const now = runtime.now()
    const held = holds.get(clientId) ?? { until: now, tries: 0, misses: 0 }
    if (held.until > now && held.until >= from) return new OverBudgetError(held.until) // another attempt found it out
    const lot = (Math.min(held.tries, 9) + chance(runtime)) / 10
    held.until = Math.ceil(from + lot * Math.max((from - now) / 10, 100 * 2 ** Math.min(held.misses, 7)))
    held.misses += 1
    holds.set(clientId, held)
    return new OverBudgetError(held.until)
  }

  async function hasAnswered(clientId: string, uri: string): Promise<boolean> {
    const name = `${clientId} ${uri}`
    if (known.get(name) !== undefined) return true
    const hasIt = await store.hasAnswered(clientId, uri)
    if (hasIt) known.set(name, 0)
    return hasIt
  }

  function admissionOf(
    clientId: string,
    { url, isRegistered }: Parameters<Turn['admissionOf']>[0],
    arrive: () => void,
  ): Admission | undefined {
    if (!isRegistered && options.budgets === 'registered') {
      ways.delete(clientId)
      return undefined
    }
    const { origin } = new URL(url)
    const uri = hashOf(url)
    return {
      async admit(addresses) {
        const now = runtime.now()
        const hosts = [`origin ${origin}`, ...addresses.map((address) => `address ${address}`)]
        arrive()
        const way = ways.get(clientId) ?? { hosts, pending: 0 }
        way.hosts = hosts
        ways.set(clientId, way)
        const free = freeAt(hosts, now)
        if (free > now) throw hold(clientId, free)
        for (const host of hosts) shared.take(host, now)
        if (await hasAnswered(clientId, uri)) {
          holds.delete(clientId)
        } else {
          const { unansweredPerHour, unansweredPerOrigin, unansweredPerAddress } = options
          const retryAt = await store.takeAttempt([
            { name: `client ${hashOf(clientId)}`, perHour: unansweredPerHour },
            { name: `uri ${uri}`, perHour: unansweredPerHour },
            { name: `origin ${hashOf(origin)}`, perHour: unansweredPerOrigin },
            ...addresses.map((address) => ({ name: `address ${address}`, perHour: unansweredPerAddress })),
          ])
          const held = holds.get(clientId) ?? { until: now, tries: 0, misses: 0 }
          holds.set(clientId, held)
          if (retryAt !== undefined) {
            if (!held.isReported) log({ event: 'rp_held', clientId, until: retryAt })
            held.isReported = true
            for (const host of hosts) shared.giveBack(host, now)
            throw hold(clientId, retryAt)
          }
          held.tries += 1
          held.misses = 0
        }
      },

      async answered() {
        const name = `${clientId} ${uri}`
        const wasHeld = holds.get(clientId)?.isReported === true
        holds.delete(clientId)
        const now = runtime.now()
        const notedAt = known.get(name)
        if (notedAt === undefined || notedAt < now - noteAgain) {
          await store.noteAnswered(clientId, uri)
          known.set(name, now)
        }
        return notedAt === undefined && wasHeld
      },
    }
  }

  return {
    room(clientId) {
      const now = runtime.now()
      const held = holds.get(clientId)
      if (held && held.until > now) return 0
      const { hosts, pending } = ways.get(clientId) ?? { hosts: [], pending: 0 }
      const free = Math.min(...hosts.map((host) => shared.room(host, now)), held ? 1 : Number.POSITIVE_INFINITY)
      const room = Math.max(Math.min(own.room(clientId, now), free - pending), 0)
      if (room === 0) waiting.add(clientId)
      return room
    },

    start(clientId) {
      own.take(clientId, runtime.now())
      let way = ways.get(clientId)
      if (way) way.pending += 1
      const arrive = (): void => {
        if (way) way.pending -= 1
        way = undefined
      }
      return { end: arrive, admissionOf: (receiver) => admissionOf(clientId, receiver, arrive) }
    },

    heldUntil(clientId) {
      const until = holds.get(clientId)?.until
      return until !== undefined && until > runtime.now() ? until : undefined
    },

    nextAt() {
      const now = runtime.now()
      let next = Number.POSITIVE_INFINITY
      for (const clientId of waiting) {
        const { hosts } = ways.get(clientId) ?? { hosts: [] }
        next = Math.min(next, Math.max(own.nextAt(clientId, now), freeAt(hosts, now), now + lookAgain))
      }
      waiting.clear()
      for (const [clientId, { until }] of holds) {
        if (until > now) next = Math.min(next, until)
        else if (until < now - hour) holds.delete(clientId)
      }
      return next === Number.POSITIVE_INFINITY ? undefined : next
    },

    ramp: (clientId) => own.ramp(clientId, runtime.now()),

    startOver() {
      own = createRates(options.ratePerRp)
      shared = createRates(options.ratePerHost)
      holds.clear()
      waiting.clear()
    },
  }
}

/** URIs are long, and an index is not for long texts. */
function hashOf(text: string): string {
  return createHash('sha256').update(text).digest('base64url')
}

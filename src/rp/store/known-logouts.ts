import type { Runtime } from '../../runtime/runtime.ts'
import type { OutsideLogin, RpSessionStore } from './contract.ts'
import type { HintWatcher } from './hints.ts'
import { LATE_LOGIN, logoutOf, type Watermarks } from './rules.ts'

/** A store over the network, as far as its logouts go; all of one client. */
export interface LogoutSource {
  /** With what the keys of this client's logouts begin. */
  readonly prefix: string
  readonly hints: { watch(prefix: string, watcher: HintWatcher): void; listening(): Promise<unknown> }
  /** Names a logout in hints. */
  keyOf(kind: 'sid' | 'sub', name: string): string
  /** The latest logouts that came since a time, newest first, each with its arrival; epoch milliseconds of the store's. */
  arrivedSince(
    since: number,
    limit: number,
  ): Promise<{ readonly now: number; readonly arrivals: readonly (readonly [key: string, arrivedAt: number])[] }>
  read(login: Pick<OutsideLogin, 'sid' | 'sub'>): Promise<Watermarks>
}

/** How many logouts a process keeps in mind: some 20 MB. Who logged in before the oldest of them is looked up. */
const MOST = 100_000
/** Milliseconds for which a full read is relied upon, should a hint get lost; and after which the next one is begun. */
const TRUSTED = 60_000
const AGED = 30_000
/** Milliseconds that reads overlap: a transaction may be seen that much later than the time it wrote down. */
const OVERLAP = 120_000
/** Milliseconds between attempts to listen. */
const PAUSE = 1_000

/** A logout that is known to have happened; what the store says of it is read when somebody asks. */
interface Known {
  readonly arrivedAt: number
  /** Epoch seconds; `null` when the store has it no more. */
  watermark?: number | null
}

/**
 * Keeps in mind which logouts there were, so that an ordinary request asks no server. Hints bring the new ones, and
 * reads the rest: at the start, when hints may have been lost, and now and then. A hint is no proof (T18): who seems to
 * be logged out is looked up, once. As long as this node does not hear, everybody is.
 */
export function createKnownLogouts(
  runtime: Pick<Runtime, 'now'>,
  open: () => Promise<LogoutSource>,
  most: number = MOST,
): Pick<RpSessionStore, 'loggedOutAt'> {
  const known = new Map<string, Known>()
  let source: Promise<LogoutSource> | undefined
  let readUntil = Number.NEGATIVE_INFINITY
  let trustedUntil = Number.NEGATIVE_INFINITY
  let nextRefresh = Number.NEGATIVE_INFINITY
  /** What came until then may have been dropped. */
  let droppedUntil = Number.NEGATIVE_INFINITY
  let losses = 0
  /** A slow store must not be asked for all of it once more each second. */
  let isReading = false

  function opened(): Promise<LogoutSource> {
    source ??= open()
      .then((store) => {
        store.hints.watch(store.prefix, {
          heard: (key) => note(key, runtime.now()),
          lost() {
            losses += 1
            trustedUntil = nextRefresh = Number.NEGATIVE_INFINITY
          },
        })
        return store
      })
      .catch((error: unknown) => {
        source = undefined
        throw error
      })
    return source
  }

  function note(key: string, arrivedAt: number): void {
    known.delete(key) // the newest is last
    known.set(key, { arrivedAt })
    if (known.size <= most) return
    const [oldest] = known
    if (oldest === undefined) return
    known.delete(oldest[0])
    droppedUntil = Math.max(droppedUntil, oldest[1].arrivedAt)
  }

  async function refresh(store: LogoutSource): Promise<void> {
    await store.hints.listening() // first, so that what comes while reading is heard
    const [startedAt, lossesBefore] = [runtime.now(), losses]
    const { now, arrivals } = await store.arrivedSince(Math.max(0, readUntil - OVERLAP), most)
    const oldest = arrivals.at(-1)
    if (arrivals.length >= most && oldest) droppedUntil = Math.max(droppedUntil, oldest[1])
    for (const [key, arrivedAt] of arrivals.toReversed()) {
      if (known.get(key)?.arrivedAt !== arrivedAt) note(key, arrivedAt)
    }
    readUntil = now
    if (losses !== lossesBefore) return
    trustedUntil = startedAt + TRUSTED
    nextRefresh = startedAt + AGED
  }

  function refreshSoon(store: LogoutSource): void {
    if (isReading || runtime.now() < nextRefresh) return
    nextRefresh = runtime.now() + PAUSE
    isReading = true
    refresh(store)
      .catch(() => undefined) // until one succeeds, whoever asks reads the store and hears what is wrong
      .finally(() => {
        isReading = false
      })
  }

  return {
    async loggedOutAt(login, options) {
      const store = await opened()
      refreshSoon(store)
      const keys = {
        ...(login.sid === undefined ? {} : { sid: store.keyOf('sid', login.sid) }),
        sub: store.keyOf('sub', login.sub),
      }
      const isKept = login.firstIat * 1000 > droppedUntil + LATE_LOGIN * 1000
      const [bySid, bySub] = [keys.sid === undefined ? undefined : known.get(keys.sid), known.get(keys.sub)]
      const isRead = bySid?.watermark !== undefined || bySid === undefined
      if (runtime.now() < trustedUntil && isKept && isRead && (bySub === undefined || bySub.watermark !== undefined)) {
        return logoutOf(login, { sid: bySid?.watermark ?? undefined, sub: bySub?.watermark ?? undefined }, options)
      }
      const marks = await store.read(login)
      if (bySid) bySid.watermark = marks.sid ?? null
      if (bySub) bySub.watermark = marks.sub ?? null
      return logoutOf(login, marks, options)
    },
  }
}

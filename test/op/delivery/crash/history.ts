/** A login of somebody at an RP: what the RP calls its session, and the OP session it stems from. */
export interface RpSession {
  readonly clientId: string
  readonly sid: string
  readonly uid: string
}

/** A POST as an RP saw it. Times are epoch milliseconds. */
export interface Received {
  readonly at: number
  /** When the RP answered, or when the connection broke; absent while it is open. */
  readonly until?: number
  /** The RP that got it. */
  readonly by: string
  /** Why the RP's JOSE library refused the token, where it did: signature, `iss`, `aud`, `typ` or `exp`. */
  readonly fault?: string
  readonly claims: Readonly<Record<string, unknown>>
}

/** What was asked of an OP, what it confirmed, and what came of it at the RPs. */
export interface History {
  /** Every RP session there was. */
  readonly rpSessions: readonly RpSession[]
  /** OP sessions that were to end, with the epoch milliseconds of the first time somebody asked for it. */
  readonly asked: ReadonlyMap<string, number>
  /** OP sessions whose end the OP confirmed. */
  readonly acknowledged: ReadonlySet<string>
  readonly received: readonly Received[]
  /** RP sessions (`keyOf`) that are alive when all is over. */
  readonly alive: ReadonlySet<string>
  /** True where two attempts of one delivery may meet: the sender of the first was frozen or cut off from the store. */
  readonly mayOverlap: boolean
}

/** Longest life of a Logout Token in seconds (design section 4). */
const longestLife = 120

/** An RP session's name. */
export function keyOf({ clientId, sid }: Pick<RpSession, 'clientId' | 'sid'>): string {
  return `${clientId} ${sid}`
}

/**
 * Holds what an OP confirmed against what the RPs hold, and each token against what it may say. Pure: a history in, one
 * sentence per violation out.
 */
export function violationsOf(history: History): string[] {
  return [...lostLogouts(history), ...falseLogouts(history), ...wrongTokens(history), ...overlaps(history)]
}

function* lostLogouts({ rpSessions, acknowledged, alive, received }: History): Iterable<string> {
  const told = new Set(received.filter(isAccepted).map((one) => keyOf({ clientId: one.by, sid: sidOf(one) })))
  for (const session of rpSessions) {
    if (!acknowledged.has(session.uid)) continue
    const key = keyOf(session)
    if (!told.has(key)) yield `lost: ${session.uid} was ended, and ${key} was never told`
    if (alive.has(key)) yield `lost: ${session.uid} was ended, and ${key} is alive`
  }
}

function* falseLogouts({ rpSessions, asked, alive, received }: History): Iterable<string> {
  const uids = new Map(rpSessions.map((session) => [keyOf(session), session.uid]))
  for (const one of received) {
    const key = keyOf({ clientId: one.by, sid: sidOf(one) })
    const uid = uids.get(key)
    if (uid === undefined) yield `wrong token: ${one.by} got the sid ${sidOf(one)}, which is none of its`
    else if (!asked.has(uid)) yield `false logout: ${key} was told, and nobody asked to end ${uid}`
    else if (one.at < (asked.get(uid) ?? 0)) yield `false logout: ${key} was told before anybody asked to end ${uid}`
  }
  for (const [key, uid] of uids) {
    if (!asked.has(uid) && !alive.has(key)) yield `false logout: ${key} is gone, and nobody asked to end ${uid}`
  }
}

function* wrongTokens({ received, asked, rpSessions }: History): Iterable<string> {
  const uids = new Map(rpSessions.map((session) => [keyOf(session), session.uid]))
  const jtis = new Set<unknown>()
  const times = new Map<string, unknown>()
  for (const one of received) {
    const { jti, iat, exp, toe } = one.claims
    const key = keyOf({ clientId: one.by, sid: sidOf(one) })
    if (one.fault !== undefined) yield `wrong token: ${one.by} refused one: ${one.fault}`
    if (typeof jti !== 'string' || jtis.has(jti)) yield `wrong token: the jti ${jti} came twice`
    jtis.add(jti)
    if (typeof iat !== 'number' || typeof exp !== 'number' || exp <= iat || exp - iat > longestLife) {
      yield `wrong token: ${key} got one from ${iat} to ${exp}`
    } else if (exp * 1000 <= one.at) yield `wrong token: ${key} got one that had expired`
    if (typeof toe !== 'number' || typeof iat !== 'number' || toe > iat) yield `wrong token: toe ${toe}, iat ${iat}`
    else {
      if (times.has(key) && times.get(key) !== toe)
        yield `wrong token: ${key} was told of two times, ${times.get(key)} and ${toe}`
      times.set(key, toe)
      const since = asked.get(uids.get(key) ?? '')
      if (since !== undefined && toe < Math.floor(since / 1000))
        yield `wrong token: toe ${toe} of ${key} is before the logout`
    }
  }
}

function* overlaps({ received, mayOverlap }: History): Iterable<string> {
  if (mayOverlap) return
  const ends = new Map<string, number>()
  for (const one of [...received].sort((a, b) => a.at - b.at)) {
    const key = keyOf({ clientId: one.by, sid: sidOf(one) })
    if (one.at < (ends.get(key) ?? 0)) yield `two live attempts: ${key} got a second one before the first was over`
    ends.set(key, Math.max(ends.get(key) ?? 0, one.until ?? Number.POSITIVE_INFINITY))
  }
}

function isAccepted({ fault }: Received): boolean {
  return fault === undefined
}

function sidOf({ claims: { sid } }: Received): string {
  return typeof sid === 'string' ? sid : `(${typeof sid})`
}

import { LockstepError } from '../../protocol/errors.ts'
import type { SessionEnd } from '../../protocol/session-document.ts'
import type { FoundRpSession, StoredRpSession } from './contract.ts'
import { afterExpiry, isLive, type KeptRpSession, type PastEnd } from './rules.ts'

/** What the scripts do not look into. */
type Rest = Pick<StoredRpSession, 'createdAt' | 'data'>

/** An RP session as names and values of a Redis hash. */
export function toFields(session: StoredRpSession): readonly string[] {
  const { refreshToken, sid, sessionState } = session
  const rest: Rest = { createdAt: session.createdAt, data: session.data }
  const fields = {
    pub: session.publicId,
    sub: session.sub,
    iat: String(session.firstIat),
    requested: String(session.requestedAt),
    idle: String(session.idleExpiresAt),
    exp: String(session.expiresAt),
    rest: JSON.stringify(rest),
    tokens: session.tokens,
    ...(sid === undefined ? {} : { sid }),
    ...(sessionState === undefined ? {} : { state: sessionState }),
    ...(refreshToken ? { refresh: refreshToken.sealed, offline: refreshToken.offline ? '1' : '0' } : {}),
  }
  return Object.entries(fields).flat()
}

/** What a hash says at a time in epoch seconds; the scripts add its `handle`. */
export function toFound(flat: unknown, now: number): FoundRpSession | undefined {
  const fields = toMap(flat)
  if (fields.size === 0) return undefined
  const ended = fields.get('ended')
  if (ended !== undefined) {
    if (Number(need(fields, 'exp')) <= now) return undefined
    const end = JSON.parse(ended) as PastEnd['end']
    return end === null ? undefined : { state: 'ended', publicId: need(fields, 'pub'), end }
  }
  const session = fromFields(fields)
  return isLive(session, now) ? { state: 'alive', session } : afterExpiry(session, now)
}

export function toSession(flat: unknown): StoredRpSession {
  return fromFields(toMap(flat))
}

function fromFields(fields: ReadonlyMap<string, string>): KeptRpSession {
  const [sid, sessionState, refresh] = [fields.get('sid'), fields.get('state'), fields.get('refresh')]
  const [requested, framed] = [fields.get('requested'), fields.get('framed')]
  const rest = JSON.parse(need(fields, 'rest')) as Rest
  return {
    handle: need(fields, 'handle'),
    publicId: need(fields, 'pub'),
    sub: need(fields, 'sub'),
    ...(sid === undefined ? {} : { sid }),
    firstIat: Number(need(fields, 'iat')),
    idleExpiresAt: Number(need(fields, 'idle')),
    expiresAt: Number(need(fields, 'exp')),
    ...rest,
    // An earlier version did not write it down.
    requestedAt: requested === undefined ? rest.createdAt * 1000 : Number(requested),
    tokens: need(fields, 'tokens'),
    ...(sessionState === undefined ? {} : { sessionState }),
    ...(refresh === undefined ? {} : { refreshToken: { sealed: refresh, offline: fields.get('offline') === '1' } }),
    ...(framed === undefined ? {} : { framed: JSON.parse(framed) as SessionEnd }),
  }
}

function toMap(flat: unknown): ReadonlyMap<string, string> {
  const texts = Array.isArray(flat) ? flat.map(String) : []
  const map = new Map<string, string>()
  for (let i = 0; i + 1 < texts.length; i += 2) map.set(texts[i] ?? '', texts[i + 1] ?? '')
  return map
}

function need(fields: ReadonlyMap<string, string>, name: string): string {
  const value = fields.get(name)
  if (value === undefined) throw new LockstepError('store_failed', `Redis has an RP session without "${name}"`)
  return value
}

import { createHash } from 'node:crypto'
import { base64url } from '../protocol/session-state.ts'
import type { Runtime } from '../runtime/runtime.ts'

/** The three names of one RP session: what the browser's cookie holds, what the store holds, what pages may see. */
export interface SessionId {
  /** 256 random bits; whoever has it is signed in. */
  readonly id: string
  /** SHA-256 of it: a stolen store signs nobody in (T6). */
  readonly handle: string
  /** Another, shorter hash, so that what pages and logs show finds nothing in a store. */
  readonly publicId: string
}

export function newSessionId(runtime: Pick<Runtime, 'random'>): SessionId {
  return namesOf(base64url(runtime.random(32)))
}

export function namesOf(id: string): SessionId {
  const hash = (text: string) => createHash('sha256').update(text).digest()
  return {
    id,
    handle: hash(id).toString('base64url'),
    publicId: hash(`public:${id}`).subarray(0, 16).toString('base64url'),
  }
}

import { hash } from 'node:crypto'
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
  const publicId = hash('sha256', `public:${id}`, 'buffer').subarray(0, 16).toString('base64url')
  return { id, handle: handleOf(id), publicId }
}

/** The handle alone: every request of the app asks for it. */
export function handleOf(id: string): string {
  return hash('sha256', id, 'base64url')
}

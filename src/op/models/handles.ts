import { hash } from 'node:crypto'

/** What the store keeps instead of a bearer value. */
export function handleOf(value: string): string {
  return hash('sha256', value, 'base64url')
}

/**
 * What was found by another name (a session by its uid) has no bearer value to show, so it carries its stored handle behind
 * this mark. `find` never reads the mark: a handle stolen from a database dump opens nothing.
 */
export const MARK: string = '~'

/** What the store keeps instead of an id, marked or not. */
export function storedHandle(id: string): string {
  return id.startsWith(MARK) ? id.slice(MARK.length) : handleOf(id)
}

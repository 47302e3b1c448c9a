import type { OpSessionScope } from './contract.ts'

/** A scope as the tables name it; everyone's name is empty. */
export interface ScopeName {
  readonly scope: 'account' | 'client' | 'everyone'
  readonly name: string
}

/** Names a scope as the tables do. */
export function scopeName(scope: OpSessionScope): ScopeName {
  if (scope === 'everyone') return { scope, name: '' }
  return 'accountId' in scope ? { scope: 'account', name: scope.accountId } : { scope: 'client', name: scope.clientId }
}

/** The scope of that name. */
export function toScope({ scope, name }: ScopeName): OpSessionScope {
  if (scope === 'everyone') return scope
  return scope === 'account' ? { accountId: name } : { clientId: name }
}

/** Where a list is continued: behind the OP session with this time of login and this uid. */
export interface Position {
  since: number
  uid: string
}

/** How many OP sessions a part of a list has when the caller does not say. */
export const defaultLimit = 100
/** Before the first. */
export const newest: Position = { since: Number.MAX_SAFE_INTEGER, uid: '' }

/** What a caller gives back for the next part. */
export function writeCursor({ since, uid }: Position): string {
  return Buffer.from(`${since} ${uid}`).toString('base64url')
}

/** @throws TypeError when no list gave this cursor. */
export function readCursor(cursor: string): Position {
  const [, since, uid] = /^(\d+) (.*)$/s.exec(Buffer.from(cursor, 'base64url').toString()) ?? []
  if (since === undefined || uid === undefined) throw new TypeError('cursor is not one that a list gave')
  return { since: Number(since), uid }
}

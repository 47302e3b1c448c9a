import { createHash, timingSafeEqual } from 'node:crypto'
import { type ConfiguredAccount, subjectOf } from './config.ts'

/** The accounts of the configuration, as the login page and oidc-provider ask for them. */
export interface Accounts {
  /** The account these two belong to; takes as long for a wrong username as for a wrong password. */
  verify(username: string, password: string): ConfiguredAccount | undefined
  find(sub: string): ConfiguredAccount | undefined
}

/** Keeps the configured accounts by username and by subject. */
export function accountsOf(configured: readonly ConfiguredAccount[]): Accounts {
  const byUsername = new Map(configured.map((account) => [account.username, account]))
  const bySub = new Map(configured.map((account) => [String(subjectOf(account)), account]))
  return {
    verify(username, password) {
      const account = byUsername.get(username)
      const same = timingSafeEqual(digest(password), digest(account?.password ?? ''))
      return account && same ? account : undefined
    },
    find: (sub) => bySub.get(sub),
  }
}

/** The name to greet an account with. */
export function displayName(account: ConfiguredAccount): string {
  return typeof account.claims.name === 'string' && account.claims.name !== '' ? account.claims.name : account.username
}

/** Equal lengths for the comparison; the configuration holds the password itself, so nothing is gained by a slow hash. */
function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}

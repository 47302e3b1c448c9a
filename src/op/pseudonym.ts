const prefix = 'erased:'

/** What stands in an erased account's place (T30); `id` is that of the erasure, which is random. */
export function pseudonymOf(id: string): string {
  return `${prefix}${id}`
}

/** The id of the erasure whose pseudonym this is, where there is such an erasure: an account may have a name that looks like one. */
export function erasureIn(accountId: string): string | undefined {
  return accountId.startsWith(prefix) ? accountId.slice(prefix.length) : undefined
}

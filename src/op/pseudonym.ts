/** What stands in an erased account's place (T30); `id` is random. */
export function pseudonymOf(id: string): string {
  return `erased:${id}`
}

/** True for what {@link pseudonymOf} made: no RP knows an account of that name. */
export function isPseudonym(accountId: string): boolean {
  return /^erased:[\w-]{22}$/.test(accountId)
}

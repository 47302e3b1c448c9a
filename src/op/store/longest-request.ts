/** A request that began before a logout is over long before this, in seconds, has passed: our choice. */
export const longestRequest = 86_400

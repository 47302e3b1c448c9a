/** What holds back guessing of passwords. */
export interface LoginThrottle {
  /** Seconds until this address may try this account again; 0 when it may try now. */
  wait(username: string, address: string): number
  /** Remembers a wrong password. */
  failed(username: string, address: string): void
  /** Forgets the wrong passwords of whoever has now signed in. */
  succeeded(username: string, address: string): void
}

export interface LoginThrottleOptions {
  /** Epoch milliseconds. Default the clock of this machine. */
  now?: () => number
  /** Wrong passwords that one address may give for one account before it has to wait. Default 5. */
  perAccount?: number
  /** Wrong passwords that one address may give in all. Default 50. */
  perAddress?: number
  /** Seconds after the last wrong password until all is forgotten. Default 300. */
  window?: number
}

const MOST_ENTRIES = 10_000

/**
 * Counts wrong passwords per account and address, and per address.
 *
 * Never per account alone: anyone could lock anyone out. It lives in memory; a restart forgets it.
 */
export function loginThrottle(options: LoginThrottleOptions = {}): LoginThrottle {
  const { now = Date.now, perAccount = 5, perAddress = 50, window = 300 } = options
  const failures = new Map<string, { count: number; until: number }>()

  const pairOf = (username: string, address: string) => JSON.stringify([address, username.slice(0, 200)])
  const left = (key: string, limit: number) => {
    const seen = failures.get(key)
    if (!seen || seen.count < limit) return 0
    return Math.max(0, Math.ceil((seen.until - now()) / 1000))
  }
  const add = (key: string) => {
    const seen = failures.get(key)
    const count = seen && seen.until > now() ? seen.count + 1 : 1
    failures.delete(key) // so that the map stays in the order of the last failure
    failures.set(key, { count, until: now() + window * 1000 })
    if (failures.size > MOST_ENTRIES) failures.delete(failures.keys().next().value ?? key)
  }

  return {
    wait: (username, address) => Math.max(left(pairOf(username, address), perAccount), left(address, perAddress)),
    failed(username, address) {
      add(pairOf(username, address))
      add(address)
    },
    succeeded(username, address) {
      failures.delete(pairOf(username, address))
    },
  }
}

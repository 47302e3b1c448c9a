import { isIP, isIPv6 } from 'node:net'
import { errors, interactionPolicy, type KoaContextWithOIDC } from 'oidc-provider'
import { isPositive } from './positive.ts'

/** How often an OP may be asked by prompt=none whether somebody is there (T33). */
export interface SilentCheckOptions {
  /** Requests a minute in one OP session. Default 120: twenty apps that ask at once, and again. */
  perSession?: number
  /** Requests a minute from one address, for which an IPv6 /64 counts: an office may stand behind it. Default 3,000. */
  perAddress?: number
}

/** @throws TypeError naming the option that is wrong. */
export function resolveSilentCheckOptions({
  perSession = 120,
  perAddress = 3000,
  ...unknown
}: SilentCheckOptions = {}): Required<SilentCheckOptions> {
  const [extra] = Object.keys(unknown)
  if (extra !== undefined) throw new TypeError(`silentChecks.${extra} is not an option of Lockstep's Provider`)
  for (const [name, value] of Object.entries({ perSession, perAddress })) {
    if (!isPositive(value)) throw new TypeError(`silentChecks.${name} must be a positive number of requests a minute`)
  }
  return { perSession, perAddress }
}

/** Milliseconds after which counting starts anew. */
const WINDOW = 60_000
/** Sessions and addresses that are counted at most; whoever comes with more of them starts a new minute for all. */
const MOST = 100_000

/**
 * The step of oidc-provider's interaction policy that answers too many silent checks with `temporarily_unavailable`: an error
 * that no RP takes for a logout. It counts in this process; several nodes let through as many times more.
 *
 * The address is Koa's `ctx.ip`: behind a proxy that of the client only where oidc-provider's `proxy` is on, and what the proxy
 * says only with `maxIpsCount`.
 */
export function silentCheckLimit(limits: Required<SilentCheckOptions>, now: () => number): interactionPolicy.Prompt {
  const { Check, Prompt } = interactionPolicy
  const counts = new Map<string, number>()
  let since = 0

  const isTooMuch = (key: string, limit: number): boolean => {
    const count = (counts.get(key) ?? 0) + 1
    counts.set(key, count)
    return count > limit
  }
  const check = new Check('too_many_silent_checks', 'too many silent checks', (ctx) => {
    if (!ctx.oidc.prompts.has('none')) return Check.NO_NEED_TO_PROMPT
    if (Math.abs(now() - since) >= WINDOW || counts.size >= MOST) {
      counts.clear()
      since = now()
    }
    const { session } = ctx.oidc
    const tooMany = [
      isTooMuch(`address ${networkOf(ctx)}`, limits.perAddress),
      session?.accountId !== undefined && isTooMuch(`session ${session.uid}`, limits.perSession),
    ]
    if (tooMany.includes(true)) throw new errors.TemporarilyUnavailable('too many silent checks, ask again in a minute')
    return Check.NO_NEED_TO_PROMPT
  })
  return new Prompt({ name: 'lockstep_limit_silent_checks' }, check)
}

function networkOf({ ip }: KoaContextWithOIDC): string {
  if (isIP(ip) === 0) return 'unknown' // X-Forwarded-For is text of the client's where no proxy replaces it
  if (!isIPv6(ip) || ip.startsWith('::ffff:')) return ip
  const [head = '', tail] = ip.split('::')
  const groups = head.split(':').filter((group) => group !== '')
  const after = tail === undefined ? [] : tail.split(':').filter((group) => group !== '')
  while (tail !== undefined && groups.length + after.length < 8) groups.push('0')
  return groups.concat(after).slice(0, 4).join(':')
}

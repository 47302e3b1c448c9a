import { isIP, isIPv6 } from 'node:net'
import { errors, interactionPolicy, type KoaContextWithOIDC } from 'oidc-provider'
import { isPositive } from './positive.ts'
import { isStranger, isUnseen } from './unseen.ts'

/** How often an OP may be asked by prompt=none whether somebody is there (T33). */
export interface SilentCheckOptions {
  /** Requests a minute of one app in one OP session. Default 120: twenty tabs that ask at once, again and again. */
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
/** Addresses, and apps in OP sessions, that are counted at most; whoever comes with more of them starts a new minute for all. */
const MOST = 100_000

/**
 * The step of oidc-provider's interaction policy that guards silent checks (T33); the first, since whatever is decided later may
 * tell that somebody is there.
 *
 * A stranger whom the user does not see is answered `login_required`, whoever is there. Too many checks of one address are
 * answered `temporarily_unavailable`, an error that no RP takes for a logout, and so are those of one app in one OP session: of
 * that app alone, else any site could put off all others. It counts in this process; several nodes let through as many times more.
 *
 * The address is Koa's `ctx.ip`: behind a proxy that of the client only where oidc-provider's `proxy` is on, and what the proxy
 * says only with `maxIpsCount`.
 */
export function silentCheckGuard(limits: Required<SilentCheckOptions>, now: () => number): interactionPolicy.Prompt {
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
    const tooMany = new errors.TemporarilyUnavailable('too many silent checks, ask again in a minute')
    if (isTooMuch(`address ${networkOf(ctx)}`, limits.perAddress)) throw tooMany
    if (isStranger(ctx)) {
      if (isUnseen(ctx)) throw new errors.LoginRequired('End-User authentication is required')
      return Check.NO_NEED_TO_PROMPT // never counted: that its checks are too many would say that somebody is there
    }
    const { session, client } = ctx.oidc
    if (isTooMuch(`app ${session?.uid} ${client?.clientId}`, limits.perSession)) throw tooMany
    return Check.NO_NEED_TO_PROMPT
  })
  return new Prompt({ name: 'lockstep_guard_silent_checks' }, check)
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

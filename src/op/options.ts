import { messageOf } from '../runtime/message-of.ts'
import type { Runtime } from '../runtime/runtime.ts'
import { type RegistrationOptions, resolveRegistrationOptions } from './clients/registration-options.ts'
import { type BackchannelOptions, resolveBackchannelOptions } from './delivery/backchannel-options.ts'
import { type EgressPolicyOptions, type ResolvedEgressPolicy, resolveEgressPolicy } from './egress-options.ts'
import { resolveSilentCheckOptions, type SilentCheckOptions } from './limit-silent-checks.ts'
import type { OpLog } from './log.ts'
import { type LogoutPages, PAGE_NAMES } from './pages/pages.ts'
import { checkEncryptionKeys, type EncryptionKeys } from './secrets/encryption.ts'
import { resolveSessionLifetime } from './session-lifetime.ts'
import type { OpStore } from './store/contract.ts'
import {
  type RetentionOptions,
  resolveRetentionOptions,
  resolveSweepOptions,
  type SweepOptions,
} from './sweep-options.ts'

/** What a Lockstep OP needs beside oidc-provider's own configuration. */
export interface LockstepOptions {
  /** Where OP sessions, tokens, keys and the outbox are kept. It replaces oidc-provider's `adapter`. */
  store: OpStore
  /** Which addresses the URLs of clients may lead to: public unicast ones, and what you allow. */
  egress?: EgressPolicyOptions
  /**
   * The keys that `openSecrets` is given: what this OP must keep in clear to use it (secrets of clients that register themselves,
   * keys that seal logout requests) is encrypted in the store under the first, and all decrypt (T6). They must be given where
   * `features.registration` or the CIBA ping mode is on. Default none.
   */
  encryptionKeys?: EncryptionKeys
  /** What clients that register themselves may do. */
  registration?: RegistrationOptions
  /** How Logout Tokens are delivered. */
  backchannel?: BackchannelOptions
  /**
   * Seconds from a login to the end of its OP session, however busy it is. Default 2,592,000 (30 days). `openSecrets` must be told
   * a longer one too: its keys verify hints for as long.
   */
  sessionLifetime?: number
  /** What the Logout Endpoint does. */
  logout?: {
    /**
     * Where "stay signed in" leads: to a `page` that says so, with a link back, or by `redirect` to where the app wanted
     * the browser after the logout, although there was none. Default `page`.
     */
    declined?: 'page' | 'redirect'
    /** Pages of yours in place of the built-in ones. Default none. */
    pages?: Partial<LogoutPages>
  }
  /**
   * Takes `prompt=create`: an interaction whose prompt is `create` starts where accounts are made, and ends with
   * `{ create: {}, login: { accountId } }`. Default false.
   */
  promptCreate?: boolean
  /** How expired OP sessions, and those of `opSessions.endAll`, are ended. */
  sweep?: SweepOptions
  /** How long logouts and attempts at telling RPs are kept. */
  retention?: RetentionOptions
  /** How often an OP may be asked by prompt=none whether somebody is there. */
  silentChecks?: SilentCheckOptions
  /** Receives one structured line per event that an operator should see. Default: one JSON line on standard error. */
  log?: OpLog
  /** Time, chance and network; replaced in tests and in the simulation. */
  runtime?: Partial<Runtime>
}

/** The options with every default in its place. */
export interface ResolvedLockstepOptions {
  readonly store: OpStore
  readonly egress: ResolvedEgressPolicy
  readonly encryptionKeys: EncryptionKeys
  readonly registration: Required<RegistrationOptions>
  readonly backchannel: Required<BackchannelOptions>
  readonly sessionLifetime: number
  readonly logout: Required<NonNullable<LockstepOptions['logout']>>
  readonly promptCreate: boolean
  readonly sweep: Required<SweepOptions>
  readonly retention: Required<RetentionOptions>
  readonly silentChecks: Required<SilentCheckOptions>
  readonly log: OpLog
  readonly runtime: Partial<Runtime>
}

const KNOWN: ReadonlySet<string> = new Set([
  'store',
  'egress',
  'encryptionKeys',
  'registration',
  'backchannel',
  'sessionLifetime',
  'logout',
  'promptCreate',
  'sweep',
  'retention',
  'silentChecks',
  'log',
  'runtime',
] satisfies (keyof LockstepOptions)[])

/** Checks the options and fills in the defaults; a wrong one is a `TypeError` that names it. */
export function resolveLockstepOptions(options: LockstepOptions): ResolvedLockstepOptions {
  const unknown = Object.keys(options ?? {}).find((name) => !KNOWN.has(name))
  if (unknown !== undefined) throw new TypeError(`"${unknown}" is not an option of Lockstep's Provider`)
  for (const name of [
    'egress',
    'registration',
    'backchannel',
    'logout',
    'sweep',
    'retention',
    'silentChecks',
    'runtime',
  ] as const) {
    const value: unknown = options?.[name]
    if (value !== undefined && !isObject(value)) {
      throw new TypeError(`${name} must be an object`)
    }
  }
  const {
    store,
    egress,
    encryptionKeys = [],
    registration,
    backchannel,
    sessionLifetime,
    logout,
    promptCreate = false,
    sweep,
    retention,
    silentChecks,
    log = toStandardError,
  } = options ?? {}
  if (typeof store?.forIssuer !== 'function') {
    throw new TypeError('store is missing: pass sqliteStore(file) from lockstep/op/sqlite, or a store of your own')
  }
  if (typeof promptCreate !== 'boolean') throw new TypeError('promptCreate must be true or false')
  if (typeof log !== 'function') throw new TypeError('log must be a function')
  checkEncryptionKeys(encryptionKeys)
  return {
    store,
    encryptionKeys,
    egress: resolveEgressPolicy(egress),
    registration: resolveRegistrationOptions(registration),
    backchannel: resolveBackchannelOptions(backchannel),
    sessionLifetime: resolveSessionLifetime(sessionLifetime),
    logout: resolveLogout(logout),
    promptCreate,
    sweep: resolveSweepOptions(sweep),
    retention: resolveRetentionOptions(retention),
    silentChecks: resolveSilentCheckOptions(silentChecks),
    log: whole(log),
    runtime: options.runtime ?? {},
  }
}

/** A log that fails must not stop what it reports: the events go to standard error, and why. */
function whole(log: OpLog): OpLog {
  return (event) => {
    try {
      log(event)
    } catch (error) {
      toStandardError(event)
      toStandardError({ event: 'op_failed', task: 'log', message: messageOf(error) })
    }
  }
}

function resolveLogout({
  declined = 'page',
  pages = {},
  ...unknown
}: NonNullable<LockstepOptions['logout']> = {}): ResolvedLockstepOptions['logout'] {
  const [extra] = Object.keys(unknown)
  if (extra !== undefined) throw new TypeError(`logout.${extra} is not an option of Lockstep's Provider`)
  if (declined !== 'page' && declined !== 'redirect')
    throw new TypeError('logout.declined must be "page" or "redirect"')
  if (!isObject(pages)) throw new TypeError('logout.pages must be an object of functions')
  const names: ReadonlySet<string> = new Set(PAGE_NAMES)
  for (const [name, page] of Object.entries(pages)) {
    if (!names.has(name)) throw new TypeError(`logout.pages.${name} is not a page; there are ${[...names].join(', ')}`)
    if (typeof page !== 'function') throw new TypeError(`logout.pages.${name} must be a function that returns HTML`)
  }
  return { declined, pages }
}

function isObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

const toStandardError: OpLog = (event) => {
  process.stderr.write(`${JSON.stringify(event)}\n`)
}

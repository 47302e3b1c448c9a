import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Context, Next } from 'koa'
import { type Configuration, Provider as OidcProvider } from 'oidc-provider'
import { type Egress, egress } from '../runtime/egress.ts'
import { messageOf } from '../runtime/message-of.ts'
import { type Runtime, world } from '../runtime/runtime.ts'
import { type Accounts, accountsOf } from './accounts.ts'
import { type BrowserLoginsParts, loginsIn, uidsOf } from './browser-logins.ts'
import { rotateBrowserState, type SignedIn } from './browser-state.ts'
import { findClientOf } from './clients/find-client.ts'
import { clientReader } from './clients/read-client.ts'
import { storedClientsLook } from './clients/stored-clients.ts'
import { CHECK_SESSION_PATH, type CookieNames, completeConfiguration } from './configuration.ts'
import { type Deliveries, deliveriesOf } from './delivery/deliveries.ts'
import { tellBy } from './delivery/events.ts'
import { readOutbox } from './delivery/metrics.ts'
import { type Outbox, startOutbox } from './delivery/outbox.ts'
import { receiverOf, wishesOf } from './delivery/receiver.ts'
import { openTelemetry, type Telemetry } from './delivery/telemetry.ts'
import { type EndSessionParts, endTogether } from './end-session.ts'
import { type FollowUpParts, followUp, noteUserSwitch } from './follow-up.ts'
import { toKoa } from './http.ts'
import { joinedOpSession } from './join-login.ts'
import { silentCheckGuard } from './limit-silent-checks.ts'
import { type Receipts, receiptsOf } from './logout/receipts.ts'
import { modelAdapter } from './models/model-adapter.ts'
import { askAgain } from './op-cookie.ts'
import { type OpSessions, opSessionsOf } from './op-sessions.ts'
import { type LockstepOptions, type ResolvedLockstepOptions, resolveLockstepOptions } from './options.ts'
import { betraysSomebody, refusedPrompt, showNothing } from './prompts.ts'
import { attachSeam } from './provider-seam.ts'
import { recordingPrompt, recordLogin } from './record-login.ts'
import { dropRepeatedCookies } from './repeated-cookies.ts'
import { asksSomebody } from './request-path.ts'
import { type OwnSecrets, ownSecretsOf } from './secrets/own-secrets.ts'
import { checkSessionLifetime } from './session-lifetime.ts'
import { logoutPaths, type SessionRoutes, sessionRoutes } from './session-routes.ts'
import { type SessionStateParts, sessionStateFor } from './session-state.ts'
import { showError } from './show-error.ts'
import { type Sweeper, startSweeper } from './sweeper.ts'
import { isBackgroundCheck, isSubresource } from './unseen.ts'
import { userSwitchIn } from './user-switch.ts'

/**
 * oidc-provider's `Provider` with session management and logout: `session_state`, the OP iframe, a Logout Endpoint to the
 * letter, and Logout Tokens that are delivered whatever happens.
 *
 * Takes oidc-provider's two arguments and one more. Its `adapter` is replaced by the store.
 *
 * @example
 * ```ts
 * const store = sqliteStore('op.db')
 * const { jwks, cookieKeys } = await openSecrets(store, issuer)
 * const op = new Provider(issuer, { clients, jwks, cookies: { keys: cookieKeys } }, { store })
 * app.use('/oidc', op.callback())
 * ```
 */
export class Provider extends OidcProvider {
  /** The live OP sessions: list them, end them. */
  readonly opSessions: OpSessions
  /** The accounts that the store knows of: erase them. */
  readonly accounts: Accounts
  /** What each RP was told, and what was tried: list, retry, reschedule, drop. */
  readonly deliveries: Deliveries
  /** Proof of logout: what became of each app. */
  readonly receipts: Receipts
  readonly #configuration: Configuration
  readonly #runtime: Runtime
  readonly #egress: Egress
  readonly #outbox: Outbox
  readonly #telemetry: Telemetry
  readonly #endSession: EndSessionParts
  readonly #sweeper: Sweeper
  readonly #cookieNames: CookieNames
  readonly #sessionState: SessionStateParts
  readonly #followUp: FollowUpParts
  readonly #ownCookies: ReadonlySet<string>
  readonly #options: ResolvedLockstepOptions
  readonly #routes: SessionRoutes
  readonly #secrets: () => Promise<OwnSecrets>
  #closing: Promise<void> | undefined

  /**
   * @throws TypeError naming the option or configuration key that is wrong.
   * @throws LockstepError `provider_unsupported` when the installed oidc-provider is not one this version builds on.
   */
  constructor(issuer: string, configuration: Configuration, options: LockstepOptions) {
    const resolved = resolveLockstepOptions(options)
    checkSessionLifetime(configuration.jwks?.keys, resolved.sessionLifetime)
    const network = egress(resolved.egress)
    const { post, ...others }: Runtime = { ...world, post: network.post, ...resolved.runtime }
    const runtime: Runtime = { ...others, post: (request) => telemetry.untraced(() => post(request)) }
    const store = resolved.store.forIssuer(issuer, runtime)
    const { encryptionKeys } = resolved
    const secrets = ownSecretsOf({ store, keys: encryptionKeys, random: runtime.random })
    let outbox: Outbox | undefined
    const telemetry = openTelemetry(issuer, resolved.log, () =>
      readOutbox(store, runtime.now(), outbox?.openBreakers() ?? 0),
    )
    const adapter = modelAdapter(store, {
      now: runtime.now,
      lifetime: { absolute: resolved.sessionLifetime },
      bearerKey: encryptionKeys.length > 0 ? async () => (await secrets()).bearers : undefined,
    })
    const {
      configuration: complete,
      cookieNames,
      checkClient,
    } = completeConfiguration(configuration, {
      issuer,
      adapter,
      fetch: (url, request) => telemetry.untraced(() => network.fetch(url, request)),
      checkSessionPath: CHECK_SESSION_PATH,
      firstPrompt: silentCheckGuard(resolved.silentChecks, runtime.now),
      lastPrompt: recordingPrompt((ctx) => recordLogin(store, ctx)),
      promptCreate: resolved.promptCreate,
      registration: resolved.registration,
      encrypts: encryptionKeys.length > 0,
    })
    super(issuer, complete)

    this.#configuration = complete
    this.#secrets = secrets
    this.#runtime = runtime
    this.#egress = network
    this.#telemetry = telemetry
    this.#cookieNames = cookieNames
    const browserLogins: BrowserLoginsParts = {
      prefix: cookieNames.logins,
      sealingKey: () => this.#sealingKey(),
      now: () => runtime.now(),
    }
    const rotate = (ctx: Context, signedIn: SignedIn) => this.#rotateBrowserState(ctx, signedIn)
    this.#sessionState = { random: runtime.random, rotateBrowserState: rotate }
    this.#followUp = {
      ...browserLogins,
      switchCookie: cookieNames.userSwitch,
      store,
      runtime,
      lifetime: resolved.sessionLifetime,
      endOthers: (uids) => endTogether(this.#endSession, uids, { cause: 'user_switch' }),
      opCookie: cookieNames.session,
      rotateBrowserState: rotate,
      paths: () => logoutPaths(this),
      configuration: complete,
      log: resolved.log,
      failed: (ctx, error) => this.emit('server_error', ctx, error),
    }
    this.#ownCookies = new Set(Object.values(cookieNames))
    this.#options = resolved
    attachSeam(this, {
      userSwitch: (ctx, session) => userSwitchIn(ctx, session, this.#followUp),
      joinedSession: async (ctx) =>
        joinedOpSession(ctx, {
          store,
          cookie: ctx.oidc.cookies.get(cookieNames.session, complete.cookies?.long),
          browserLogins: async () => uidsOf(await loginsIn(ctx, browserLogins)),
        }),
      endSession: async (session) => {
        const ended = await endTogether(this.#endSession, [session.uid], { cause: 'user_switch' })
        noteUserSwitch(OidcProvider.ctx, ended)
      },
    })
    const written = complete.clients ?? []
    const readClient = clientReader(this, written, adapter('Client'))
    const findClient = findClientOf(readClient, resolved.log)
    this.receipts = receiptsOf(findClient, store, () => runtime.now())
    outbox = startOutbox({
      store,
      runtime,
      options: resolved.backchannel,
      log: resolved.log,
      telemetry,
      tell: tellBy((name, event) => this.emit(name, event), resolved.log),
      ...receiverOf(this, { runtime, store, readClient, written: new Set(written.map(({ client_id }) => client_id)) }),
    })
    this.#outbox = outbox
    const { sweep, retention, log } = resolved
    this.deliveries = deliveriesOf({
      store,
      hurry: (those) => this.#outbox.hurry(those),
      log,
    })
    this.#endSession = {
      store,
      findReceiver: (clientId) => wishesOf(readClient, clientId),
      wake: () => this.#outbox.wake(),
      log,
      telemetry,
    }
    this.#sweeper = startSweeper({
      ...this.#endSession,
      runtime,
      sweep,
      retention,
      lookAtClients: storedClientsLook({ store, check: checkClient, log }),
    })
    this.opSessions = opSessionsOf({
      store,
      end: (uids, ending) => endTogether(this.#endSession, uids, ending),
      wake: () => this.#sweeper.wake(),
    })
    this.accounts = accountsOf({ store, wake: () => this.#sweeper.wake() })
    this.#routes = sessionRoutes({
      provider: this,
      store,
      runtime,
      receipts: this.receipts,
      findClient,
      log,
      sealingKey: () => this.#sealingKey(),
      ...resolved.logout,
      cookieNames,
      browserLogins,
      sessionCookie: complete.cookies?.long ?? {},
      findAccount: complete.findAccount,
      pairwiseIdentifier: complete.pairwiseIdentifier,
      end: (uids, ending) => endTogether(this.#endSession, uids, ending),
      firstAttempts: (logoutId, ms) => this.#firstAttempts(logoutId, ms),
      rotateBrowserState: rotate,
    })
    this.use((ctx, next) => this.#serve(ctx, next))
  }

  /**
   * Resolves when the store has answered; requests wait for it by themselves.
   *
   * @throws LockstepError `store_failed` when it cannot be reached, `store_in_use` when another process delivers from its file:
   *   then this one delivers nothing until the other is gone.
   */
  async ready(): Promise<void> {
    await Promise.all([this.#secrets(), this.#telemetry.ready, this.#endSession.store.takeOver()])
  }

  /**
   * Stops sweeping and delivering: attempts under way finish or go back to the outbox within seconds. May be called again.
   * The store is the caller's.
   */
  close(): Promise<void> {
    this.#closing ??= this.#stop()
    return this.#closing
  }

  async #stop(): Promise<void> {
    await Promise.all([this.#sweeper.stop(), this.#outbox.stop()]) // a store that hangs keeps neither from being told to stop
    this.#telemetry.close()
    await this.#egress.close()
  }

  /** Adds `session_state` to what every response mode sends, successes and errors alike (Session §2). */
  override registerResponseMode(...[name, handler]: Parameters<OidcProvider['registerResponseMode']>): void {
    // runs inside super(): whatever it needs of this class is looked up at request time
    super.registerResponseMode(name, async (ctx, redirectUri, payload) => {
      const refusal = refusedPrompt(ctx, this.#configuration)
      if (refusal) return showError(ctx, refusal, this.#configuration)
      if (!isBackgroundCheck(ctx) && betraysSomebody(ctx, payload)) return showNothing(ctx)
      const sessionState = await sessionStateFor(ctx, redirectUri, this.#sessionState)
      const extended = sessionState === undefined ? payload : { ...payload, session_state: sessionState }
      return handler.call(this, ctx, redirectUri, askAgain(ctx, extended))
    })
  }

  /**
   * Believes no OP cookie that comes twice (T21). On a loopback http issuer (development) browsers take Secure cookies, but
   * the cookie jar here would refuse to set them.
   */
  override createContext<State, Custom>(req: IncomingMessage, res: ServerResponse): Context & State & Custom {
    dropRepeatedCookies(req, res, this.#ownCookies)
    const ctx = super.createContext(req, res) as Context & State & Custom
    if (this.issuer.startsWith('http:')) ctx.cookies.secure = true
    return ctx
  }

  async #rotateBrowserState(ctx: Context, signedIn: SignedIn): Promise<string> {
    const { browserState: secret } = await this.#secrets()
    const { random } = this.#runtime
    return rotateBrowserState(ctx, signedIn, { cookieName: this.#cookieNames.browserState, secret, random })
  }

  #serve(ctx: Context, next: Next): Promise<void> {
    // below another Koa app `ctx` is that app's, whose cookies are not signed with our keys
    if (ctx.app !== this) ctx.cookies = this.createContext(ctx.req, ctx.res).cookies
    if (isSubresource(ctx) && asksSomebody(this, ctx.path)) {
      toKoa(ctx, { status: 403, headers: { 'cache-control': 'no-store' }, body: '' })
      return Promise.resolve()
    }
    return this.#routes(ctx) ?? next().then(() => followUp(ctx, this.#followUp))
  }

  /** The OP session has ended: that nobody could look how its RPs took it must not look as if it had not. */
  async #firstAttempts(logoutId: string, ms: number): Promise<void> {
    try {
      await this.#outbox.firstAttempts(logoutId, ms)
    } catch (error) {
      this.#options.log({ event: 'op_failed', task: 'first_attempts', message: messageOf(error) })
    }
  }

  async #sealingKey(): Promise<Uint8Array> {
    return (await this.#secrets()).sealing
  }
}

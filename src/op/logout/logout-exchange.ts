import type { Context } from 'koa'
import type {
  Configuration,
  CookiesSetOptions,
  KoaContextWithOIDC,
  Provider as OidcProvider,
  Session,
} from 'oidc-provider'
import { messageOf } from '../../runtime/message-of.ts'
import { type BrowserLoginsParts, forgetLogins, loginsIn, uidsOf } from '../browser-logins.ts'
import type { SignedIn } from '../browser-state.ts'
import type { CookieNames } from '../configuration.ts'
import { fromKoa } from '../http.ts'
import type { OpLog } from '../log.ts'
import { handleOf } from '../models/handles.ts'
import { meantBy } from '../op-cookie.ts'
import type { OpIssuerStore } from '../store/contract.ts'
import type { LogoutEndpointParts, LogoutExchange } from './logout-endpoint.ts'
import { RECEIPT_LIFETIME } from './receipts.ts'
import { lastLogoutOf } from './show-receipt.ts'

/** What it takes to read a browser's side of a logout from a request, and to write it into the answer. */
export interface LogoutExchangeParts {
  readonly provider: OidcProvider
  readonly store: Pick<OpIssuerStore, 'getOpSession' | 'getRotated'>
  readonly cookieNames: CookieNames
  readonly browserLogins: BrowserLoginsParts
  /** The attributes of the OP cookie, needed to clear it. */
  readonly sessionCookie: CookiesSetOptions
  readonly rotateBrowserState: (ctx: Context, signedIn: SignedIn) => Promise<string>
}

/** What it takes to know a user by the names that apps and people have for him. */
export interface AccountNamesParts {
  readonly findAccount: Configuration['findAccount']
  readonly pairwiseIdentifier: Configuration['pairwiseIdentifier']
  readonly log: OpLog
}

/** The browser's side of a logout: whose OP sessions it has, and how it is told that they are over. */
export async function exchangeOf(ctx: KoaContextWithOIDC, parts: LogoutExchangeParts): Promise<LogoutExchange> {
  const { cookieNames } = parts
  const logins = await loginsIn(ctx, parts.browserLogins)
  return {
    request: fromKoa(ctx),
    sessions: await sessionsOf(ctx, uidsOf(logins), parts),
    lastLogout: ctx.cookies.get(cookieNames.lastLogout, { signed: false }),
    async signedOut(logoutIds) {
      ctx.cookies.set(cookieNames.session, null, parts.sessionCookie)
      forgetLogins(ctx, logins.keys())
      await parts.rotateBrowserState(ctx, undefined)
      const lastLogout = lastLogoutOf(logoutIds)
      if (lastLogout === undefined) return
      ctx.cookies.set(cookieNames.lastLogout, lastLogout, {
        httpOnly: true,
        maxAge: RECEIPT_LIFETIME,
        sameSite: 'strict',
        secure: true,
        signed: false,
      })
    },
  }
}

/** The OP sessions that this browser is signed in in: by its OP cookie, a replaced one too, and by the logins it remembers. */
async function sessionsOf(
  ctx: KoaContextWithOIDC,
  logins: readonly string[],
  { provider, store, cookieNames, sessionCookie }: LogoutExchangeParts,
): Promise<readonly Session[]> {
  const current: Session = await provider.Session.get(ctx)
  const cookie = ctx.oidc.cookies.get(cookieNames.session, sessionCookie)
  const uids = new Set(logins)
  if (current.accountId === undefined && cookie !== undefined) {
    const meant = await meantBy(handleOf(cookie), store)
    if (meant.state === 'rotated') uids.add(meant.session.uid)
  }
  uids.delete(current.uid)
  const others = await Promise.all([...uids].map((uid) => provider.Session.findByUid(uid)))
  return [current, ...others].filter((session) => session?.accountId !== undefined) as Session[]
}

/** What apps and people call a user. */
export function accountNamesOf(
  ctx: KoaContextWithOIDC,
  { findAccount, pairwiseIdentifier, log }: AccountNamesParts,
): Pick<LogoutEndpointParts, 'subFor' | 'accountName'> {
  return {
    async subFor(accountId, client) {
      if (client.subjectType !== 'pairwise') return accountId
      return pairwiseIdentifier?.(ctx, accountId, client)
    },
    async accountName(accountId) {
      try {
        const account = await findAccount?.(ctx, accountId)
        const claims = await account?.claims('userinfo', 'openid profile email', {}, [])
        const name = [claims?.name, claims?.preferred_username, claims?.email].find(
          (value) => typeof value === 'string' && value !== '',
        )
        return typeof name === 'string' ? name : accountId
      } catch (error) {
        log({ event: 'op_failed', task: 'account', message: messageOf(error) })
        return accountId // a logout does not wait for the database of users
      }
    },
  }
}

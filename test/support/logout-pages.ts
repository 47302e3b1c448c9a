import { importJWK, type JWTPayload, SignJWT } from 'jose'
import { expect } from 'vitest'
import { openSecrets } from '../../src/op.ts'
import type { TestOp } from './test-op.ts'
import type { Page } from './user-agent.ts'

/** The page asks whether to sign out. */
export function expectQuestion(page: Page, { issuer }: TestOp): void {
  expect(page.status).toBe(200)
  expect(page.url).toMatch(new RegExp(`^${issuer}/session/end/ask\\?request=`))
  expect(page.body).toContain('Sign out everywhere?')
}

/** The page is the OP's own and says that the request was refused, with the way out that RP-Initiated §4 speaks of. */
export function expectErrorPage(page: Page, { issuer }: TestOp, status = 400): void {
  expect(page.status).toBe(status)
  expect(new URL(page.url).origin).toBe(issuer)
  expect(page.body).toContain(status === 500 ? 'You may still be signed in' : 'You were not signed out')
  expect(page.body).toContain('Sign out all the same')
}

/** A page of an app with a form that posts to the Logout Endpoint, as our RP library's does. */
export function logoutForm(appOrigin: string, { issuer }: { issuer: string }): Page {
  return {
    url: `${appOrigin}/auth/logout`,
    status: 200,
    body: `<form method="post" action="${issuer}/session/end"></form>`,
    header: () => undefined,
    trail: [],
  }
}

/** A token with these claims that the OP itself might have signed. */
export async function signedByOp(
  { store, issuer }: TestOp,
  claims: JWTPayload,
  header: { alg?: string; typ?: string } = {},
): Promise<string> {
  const { alg = 'RS256', typ } = header
  const { jwks } = await openSecrets(store, issuer)
  const key = jwks.keys.find((each) => each.alg === alg)
  if (!key) throw new Error(`the OP has no ${alg} key`)
  return new SignJWT(claims)
    .setProtectedHeader({
      alg,
      ...(key.kid === undefined ? {} : { kid: key.kid }),
      ...(typ === undefined ? {} : { typ }),
    })
    .sign(await importJWK(key, alg))
}

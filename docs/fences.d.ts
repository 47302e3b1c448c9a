/* Names that the examples in README.md and docs/ use without declaring them; scripts/check-docs.mjs compiles with these. */
import type { Express } from 'express'
import type { Configuration } from 'oidc-provider'

declare global {
  const app: Express
  const issuer: string
  const accountId: string
  const appUrl: string
  const clientId: string
  const clientSecret: string
  const configuration: Configuration
  const metadata: {
    issuer: string
    authorization_endpoint: string
    token_endpoint: string
    check_session_iframe: string
  }
  const idTokenClaims: { sub: string }
  const authenticationResponse: { session_state: string }
  function forgetTokens(): void
  /** `auth(rp)` of `lockstep/rp/fetch`. */
  function lockstep(request: Request): Promise<Response | undefined>
  /** As much of keycloak-js as the example uses. */
  interface KeycloakLike {
    readonly clientId: string
    readonly subject: string
    readonly sessionId: string
    readonly authServerUrl: string
    readonly realm: string
    readonly authenticated: boolean
    updateToken(minValidity: number): Promise<boolean>
  }
}

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
}

import type { Provider as OidcProvider } from 'oidc-provider'
import { pathOf } from './provider-seam.ts'

/** As oidc-provider's router sees a path: what slipped past us here would reach its own Logout Endpoint there. */
export function normalized(path: string): string {
  const lower = path.toLowerCase()
  return lower.length > 1 && lower.endsWith('/') ? lower.slice(0, -1) : lower
}

/** Whether oidc-provider may ask somebody to sign in there, or say who has: where logins begin and go on. */
export function asksSomebody(provider: OidcProvider, path: string): boolean {
  const asked = `${normalized(path)}/`
  return ['authorization', 'code_verification'].some((name) => {
    const route = pathOf(provider, name)
    return route !== undefined && asked.startsWith(`${normalized(route)}/`)
  })
}

import { expect } from 'vitest'
import type { Page } from '../../test/support/user-agent.ts'
import { longState } from './relying-party.ts'
import type { OpUnderTest } from './server-program.ts'

/** What the suite asserts of a prompt=none request after a logout. */
export function expectLoginRequired({ metadata }: OpUnderTest, params: URLSearchParams): void {
  const errors = ['interaction_required', 'login_required', 'account_selection_required', 'consent_required']
  expect(errors).toContain(params.get('error'))
  expect(params.get('state')).toBe(longState)
  expect(params.has('code')).toBe(false)
  expect(params.get('iss')).toBe(metadata.issuer)
  const allowed = ['error', 'error_description', 'error_uri', 'state', 'session_state', 'iss']
  expect([...params.keys()].filter((name) => !allowed.includes(name))).toEqual([])
}

/** Nothing redirected, and the OP's own page says so or asks. */
export function expectOwnPage({ metadata }: OpUnderTest, page: Page): void {
  for (const url of page.trail) expect(new URL(url).origin).toBe(new URL(metadata.issuer).origin)
  expect([200, 400]).toContain(page.status)
  expect(page.header('content-type')).toMatch(/^text\/html/)
}

/** Discovery as every plan's first module looks at it. */
export async function expectDiscovery({ metadata }: OpUnderTest): Promise<void> {
  const response = await fetch(`${metadata.issuer}/.well-known/openid-configuration`)
  expect(response.status).toBe(200)
  expect(response.headers.get('content-type')).toMatch(/^application\/json/)
  for (const [name, value] of Object.entries(metadata)) {
    if (name.endsWith('_endpoint')) expect(new URL(String(value)).protocol).toBe('https:')
  }
  expect(new URL(metadata.end_session_endpoint).protocol).toBe('https:')
}

import { afterEach, expect, it, vi } from 'vitest'
import { logIn, logoutUrl } from '../support/op-flow.ts'
import { startRpSite } from '../support/rp-site.ts'
import { startTestOp } from '../support/test-op.ts'
import { createUserAgent } from '../support/user-agent.ts'

const cleanups: (() => Promise<unknown>)[] = []
afterEach(async () => {
  vi.restoreAllMocks()
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

it('a log that throws stops no delivery: what it was to say goes to standard error', async () => {
  const written: string[] = []
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    written.push(String(text))
    return true
  })
  const rps = await startRpSite()
  cleanups.push(() => rps.close())
  const log = () => {
    throw new Error('the disk of the log is full')
  }
  const op = await startTestOp({ clients: [rps.client('notes')], options: { log } })
  cleanups.push(() => op.close())
  const browser = createUserAgent()
  cleanups.push(() => browser.close())
  const { tokens } = await logIn(browser, op, rps.client('notes'))
  await browser.open(logoutUrl(op, { id_token_hint: tokens.id_token }))
  const states = async () => (await op.provider.deliveries.list()).deliveries.map(({ state }) => state)
  await expect.poll(states).toEqual(['delivered'])
  await expect.poll(() => written.join('')).toContain('delivery_delivered')
  expect(written.join('')).toContain('the disk of the log is full')
})

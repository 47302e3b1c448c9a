import { afterEach, expect, it } from 'vitest'
import { resolveSilentCheckOptions } from '../../src/op/limit-silent-checks.ts'
import { authorizationUrl, authorize, logIn } from '../support/op-flow.ts'
import { startRpSite } from '../support/rp-site.ts'
import { startTestOp } from '../support/test-op.ts'
import { createUserAgent, type UserAgent } from '../support/user-agent.ts'

const opened: { close(): Promise<void> }[] = []
afterEach(async () => {
  for (const each of opened.splice(0).toReversed()) await each.close()
})

async function start(silentChecks: { perSession?: number; perAddress?: number }, proxy = false) {
  const clock = { now: Date.now() }
  const rps = await startRpSite()
  const notes = rps.client('notes')
  const op = await startTestOp({ clients: [notes], options: { silentChecks, runtime: { now: () => clock.now } } })
  op.provider.proxy = proxy
  const [here, there] = [createUserAgent(), createUserAgent()]
  opened.push(rps, op, here, there)
  const silent = async (browser: UserAgent): Promise<string | null> =>
    (await authorize(browser, op, notes, { prompt: 'none' })).params.get('error')
  return { clock, op, notes, here, there, silent }
}

it('too many silent checks in one OP session are put off, which no app takes for a logout [T33]', async () => {
  const { clock, op, notes, here, there, silent } = await start({ perSession: 2 })
  await logIn(here, op, notes)
  await logIn(there, op, notes)
  expect([await silent(here), await silent(here), await silent(here)]).toEqual([null, null, 'temporarily_unavailable'])
  expect(await silent(there)).toBeNull()
  await logIn(here, op, notes) // the user himself is not held up
  clock.now += 60_000
  expect(await silent(here)).toBeNull()
})

it('so are those from one address, whoever is there [T33]', async () => {
  const { silent, here, there } = await start({ perAddress: 2 })
  expect([await silent(here), await silent(there), await silent(there)]).toEqual([
    'login_required',
    'login_required',
    'temporarily_unavailable',
  ])
})

it('behind a proxy the address is the client’s, and an IPv6 network counts as one [T33]', async () => {
  const { op, notes } = await start({ perAddress: 1 }, true)
  const from = async (address: string): Promise<string | null> => {
    const headers = { 'x-forwarded-for': address, 'x-forwarded-proto': 'http' }
    const response = await fetch(authorizationUrl(op, notes, { prompt: 'none' }), { headers, redirect: 'manual' })
    return new URL(response.headers.get('location') ?? '').searchParams.get('error')
  }
  expect(await from('192.0.2.1')).toBe('login_required')
  expect(await from('192.0.2.2')).toBe('login_required')
  expect(await from('192.0.2.1')).toBe('temporarily_unavailable')
  expect(await from('2001:db8::1')).toBe('login_required')
  expect(await from('2001:db8:0:0:ffff::2')).toBe('temporarily_unavailable')
  expect(await from('2001:db8:0:1::1')).toBe('login_required')
})

it('what a client writes in place of an address is none, and all who do so share one count [T33]', async () => {
  const { op, notes } = await start({ perAddress: 1 }, true)
  const from = async (address: string): Promise<string | null> => {
    const headers = { 'x-forwarded-for': address, 'x-forwarded-proto': 'http' }
    const response = await fetch(authorizationUrl(op, notes, { prompt: 'none' }), { headers, redirect: 'manual' })
    return new URL(response.headers.get('location') ?? '').searchParams.get('error')
  }
  expect(await from('x'.repeat(5000))).toBe('login_required')
  expect(await from('unknown')).toBe('temporarily_unavailable')
  expect(await from('fe80::1%eth0')).toBe('login_required')
  expect(await from('fe80::2%eth1')).toBe('temporarily_unavailable')
})

it('a wrong limit is a TypeError that names it', () => {
  expect(() => resolveSilentCheckOptions({ perSession: 0 })).toThrow(
    'silentChecks.perSession must be a positive number',
  )
  expect(() => resolveSilentCheckOptions(JSON.parse('{"perTab":1}'))).toThrow('silentChecks.perTab is not an option')
})

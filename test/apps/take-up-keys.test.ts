import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it, onTestFinished, vi } from 'vitest'
import { loadConfig } from '../../apps/server/config.ts'
import { openStore } from '../../apps/server/open-store.ts'
import { rotateServerKeys, serverSecrets } from '../../apps/server/secrets.ts'
import { start } from './start-program.ts'
import { fileFor, freePort, running, scratchFolder } from './support.ts'

async function fileOnDisk(): Promise<string> {
  const file = join(scratchFolder(), 'op.json')
  const content = { ...fileFor(await freePort(), 'http://127.0.0.1:9'), store: { sqlite: 'op.db' } }
  writeFileSync(file, JSON.stringify(content))
  return file
}

async function kidsOf(issuer: string): Promise<string[]> {
  const response = await fetch(`${issuer}/jwks`)
  expect(response.status).toBe(200)
  const { keys } = (await response.json()) as { keys: { kid: string }[] }
  return keys.map(({ kid }) => kid)
}

it('takes up other keys on SIGHUP: no restart, a compromised key gone, no request dropped [T26]', async () => {
  const file = await fileOnDisk()
  const server = start('server', '--config', file)
  const { url, pid } = await server.listening
  const [stolen = '', ...others] = await kidsOf(url)

  let asking = true
  const answers: string[][] = []
  const visitors = [1, 2, 3].map(async () => {
    while (asking) answers.push(await kidsOf(url)) // throws when a request is dropped
  })
  const rotation = await start('server', '--config', file, '--rotate-keys', '--compromised', stolen).closed
  expect(rotation).toMatchObject({ code: 0, stderr: '' })
  server.child.kill('SIGHUP')
  await server.hasSaid('"event":"keys_looked_at"')

  const after = await kidsOf(url)
  expect(after).not.toContain(stolen)
  expect(after).toEqual(expect.arrayContaining(others))
  expect(after.length).toBeGreaterThan(others.length) // one was made for the one that is gone
  asking = false
  await Promise.all(visitors)
  expect(answers.length).toBeGreaterThan(0)
  expect(answers[0]).toContain(stolen)

  server.child.kill('SIGTERM')
  const { code, stdout } = await server.closed
  expect(code).toBe(0)
  expect(stdout.match(/"event":"listening"/g)).toHaveLength(1)
  expect(stdout).toContain(`"pid":${pid}`)
}, 60_000)

it('looks at the keys by itself every 10 seconds [T26]', async () => {
  const config = loadConfig(await fileOnDisk())
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
  onTestFinished(() => void vi.useRealTimers())
  const lines: string[] = []
  await running(config, lines)
  const [stolen = ''] = await kidsOf(config.issuer)
  const store = openStore(config)
  onTestFinished(() => store.close())
  await rotateServerKeys(store, config, { compromised: [stolen] })

  vi.advanceTimersByTime(9_999)
  expect(await kidsOf(config.issuer)).toContain(stolen)
  vi.advanceTimersByTime(1)
  await vi.waitUntil(() => lines.some((line) => line.includes('keys_taken_up')), { timeout: 20_000 })
  expect(await kidsOf(config.issuer)).not.toContain(stolen)
}, 40_000)

it('prepares the store once for all the looks at its keys', async () => {
  const config = loadConfig(await fileOnDisk())
  const store = openStore(config)
  onTestFinished(() => store.close())
  const forIssuer = vi.spyOn(store, 'forIssuer')
  const secrets = serverSecrets(store, config)
  const first = await secrets.read()
  expect(await secrets.read()).toEqual(first)
  await rotateServerKeys(store, config, { compromised: 'all' })
  forIssuer.mockClear()
  expect(await secrets.read()).not.toEqual(first)
  expect(forIssuer).not.toHaveBeenCalled()
})

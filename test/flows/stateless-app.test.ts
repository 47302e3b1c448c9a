import { spawn } from 'node:child_process'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { afterEach, expect, it } from 'vitest'
import { openTab } from '../support/tab.ts'
import { startTestOp } from '../support/test-op.ts'
import { createUserAgent } from '../support/user-agent.ts'

const cleanup: (() => unknown)[] = []
afterEach(async () => {
  for (const step of cleanup.splice(0).reverse()) await step()
})

/** examples/stateless as a process of its own, at a real OP. */
async function startApp() {
  const port = await freePort()
  const url = `http://notes.localhost:${port}`
  const client = {
    client_id: 'notes',
    client_secret: 'the secret of notes, which is long enough',
    redirect_uris: [`${url}/auth/callback`],
    post_logout_redirect_uris: [`${url}/auth/logged-out`],
    backchannel_logout_uri: `http://127.0.0.1:${port}/auth/backchannel-logout`,
    backchannel_logout_session_required: true,
  }
  const op = await startTestOp({ clients: [client] })
  cleanup.push(() => op.close())
  const env = { ...process.env, ISSUER: op.issuer, CLIENT_ID: 'notes', CLIENT_SECRET: client.client_secret }
  const child = spawn(process.execPath, ['-C', '@lockstep/source', 'main.ts'], {
    cwd: resolve(import.meta.dirname, '../../examples/stateless'),
    env: { ...env, APP_URL: url, PORT: String(port) },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  cleanup.push(() => child.kill('SIGKILL'))
  for await (const line of createInterface({ input: child.stdout })) if (line.includes('listening')) break
  return { op, url }
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  const { port } = server.address() as AddressInfo
  await new Promise((done) => server.close(done))
  return port
}

it('an app whose sessions are sealed cookies is signed out by the OP, tabs included, and in no other browser [BC §2.7]', async () => {
  const { op, url } = await startApp()
  const [laptop, phone] = [createUserAgent(), createUserAgent()]
  cleanup.push(
    () => laptop.close(),
    () => phone.close(),
  )
  expect((await laptop.open(`${url}/login`)).body).toBe('{"hello":"ada"}')
  const { sessions } = await op.provider.opSessions.list({ accountId: 'ada' })
  await phone.open(`${url}/login`)
  const tab = openTab(laptop, `${url}/`)
  cleanup.push(() => tab.close())
  await tab.next('alive')
  const ended = tab.next('ended')
  await op.provider.opSessions.end(sessions[0]?.uid ?? '')
  expect(await ended).toMatchObject({ heardBy: 'push', ended: { cause: 'logout_token' } })
  const [there, here] = [await laptop.fetch(url, '/me'), await phone.fetch(url, '/me')]
  expect([there.status, there.header('location')]).toEqual([303, '/login'])
  expect([here.status, here.body]).toEqual([200, '{"hello":"ada"}'])
})

it('its own sign-out reaches the OP, and a new login is a new session [RPI-2-b]', async () => {
  const { op, url } = await startApp()
  const ada = createUserAgent()
  cleanup.push(() => ada.close())
  await ada.open(`${url}/login`)
  const page = await ada.submit(await ada.open(`${url}/`), {}, '/logout')
  expect(page.trail.join(' ')).not.toContain('id_token_hint') // it went by POST: no URL and no log has the ID Token
  expect(page.url).toContain(`${url}/auth/logged-out`)
  expect((await op.provider.opSessions.list({ accountId: 'ada' })).sessions).toEqual([])
  expect((await ada.open(`${url}/login`)).body).toBe('{"hello":"ada"}')
  expect((await ada.fetch(url, '/me')).status).toBe(200)
})

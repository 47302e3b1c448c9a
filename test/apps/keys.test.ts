import { once } from 'node:events'
import { chmodSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { request as httpRequest, IncomingMessage, ServerResponse } from 'node:http'
import { Socket } from 'node:net'
import { join } from 'node:path'
import { getCACertificates, setDefaultCACertificates } from 'node:tls'
import { decodeProtectedHeader } from 'jose'
import { expect, it, onTestFinished, vi } from 'vitest'
import { loadConfig, parseConfig, type ServerConfig } from '../../apps/server/config.ts'
import { ConfigError } from '../../apps/server/config-error.ts'
import { gateOf } from '../../apps/server/gate.ts'
import { openStore } from '../../apps/server/open-store.ts'
import { rotateServerKeys } from '../../apps/server/secrets.ts'
import { selfSigned } from '../support/self-signed.ts'
import { browser, fileFor, freePort, loginUrl, running, scratchFolder, startApp } from './support.ts'

/** A configuration on disk, as an operator has it. */
async function onDisk(more: Record<string, unknown> = {}): Promise<{ config: ServerConfig; folder: string }> {
  const folder = scratchFolder()
  const file = join(folder, 'op.json')
  const port = await freePort()
  writeFileSync(file, JSON.stringify({ ...fileFor(port, 'http://127.0.0.1:9'), store: { sqlite: 'op.db' }, ...more }))
  return { config: loadConfig(file), folder }
}

async function kidsOf(config: ServerConfig): Promise<string[]> {
  const { keys } = (await (await fetch(`${config.issuer}/jwks`)).json()) as { keys: { kid: string }[] }
  return keys.map(({ kid }) => kid)
}

it('encrypts its secrets under a key that only it may read, outside the store [T6]', async () => {
  const { config, folder } = await onDisk()
  const server = await running(config)
  expect(statSync(join(folder, 'op.key')).mode & 0o777).toBe(0o600)
  const kids = await kidsOf(config)
  await server.stop()
  expect(readFileSync(join(folder, 'op.db'), 'latin1')).not.toContain('"d":')
  const again = await running(config)
  expect(await kidsOf(config)).toEqual(kids)
  await again.stop()
})

it('does not start when that key is another, or others may read it [T6]', async () => {
  const { config, folder } = await onDisk()
  await (await running(config)).stop()
  const file = join(folder, 'op.key')
  chmodSync(file, 0o644)
  await expect(running(config)).rejects.toThrow(`"secrets.key_file" may be read by others. Run: chmod 600 ${file}`)
  chmodSync(file, 0o600)
  vi.stubEnv('LOCKSTEP_SECRETS_KEY', Buffer.alloc(32, 7).toString('base64url'))
  onTestFinished(() => void vi.unstubAllEnvs())
  await expect(running(config)).rejects.toThrow('Put that key back.')
  vi.stubEnv('LOCKSTEP_SECRETS_KEY', 'short')
  await expect(running(config)).rejects.toThrow('LOCKSTEP_SECRETS_KEY must hold 32 bytes')
})

it('takes the key from the environment, and another one when both are there [T6]', async () => {
  const { config } = await onDisk()
  const [old, fresh] = [1, 2].map((byte) => Buffer.alloc(32, byte).toString('base64url'))
  onTestFinished(() => void vi.unstubAllEnvs())
  for (const value of [old, `${fresh},${old}`, fresh]) {
    vi.stubEnv('LOCKSTEP_SECRETS_KEY', value)
    await (await running(config)).stop()
  }
  vi.stubEnv('LOCKSTEP_SECRETS_KEY', old)
  await expect(running(config)).rejects.toThrow(ConfigError)
})

it('rotates its keys in the store: the next start signs with the others, and withdraws a compromised one [T26]', async () => {
  const { config } = await onDisk()
  const rotate = async (compromised?: string[]) => {
    const store = openStore(config)
    try {
      return await rotateServerKeys(store, config, compromised ? { compromised } : {})
    } finally {
      await store.close()
    }
  }
  await (await running(config)).stop()
  await expect(rotate()).rejects.toThrow('The next signing key has not been listed for 900 seconds yet')
  const first = await running(config)
  const [stolen = ''] = await kidsOf(config)
  await first.stop()
  const signing = await rotate([stolen])
  await running(config)
  const after = await kidsOf(config)
  expect(after).not.toContain(stolen)
  expect(after.slice(0, signing.length).toSorted()).toEqual([...signing].toSorted())
})

it('takes up other keys while it runs: a rotation, and at once the loss of one, with no request dropped [T26]', async () => {
  const { config } = await onDisk()
  const lines: string[] = []
  const server = await running(config, lines)
  const [stolen = '', ...others] = await kidsOf(config)
  const store = openStore(config)
  onTestFinished(() => store.close())
  const signing = await rotateServerKeys(store, config, { compromised: [stolen] })

  await server.takeUpKeys()
  const after = await kidsOf(config)
  expect(after).not.toContain(stolen)
  expect(after).toEqual(expect.arrayContaining(others))
  expect(after.slice(0, signing.length).toSorted()).toEqual([...signing].toSorted())
  expect(lines.filter((line) => line.includes('keys_taken_up'))).toHaveLength(1)

  await server.takeUpKeys() // nothing is new
  expect(lines.filter((line) => line.includes('keys_taken_up'))).toHaveLength(1)
})

it('lets requests under way finish when it takes up other keys, and signs users in and out afterwards [T26]', async () => {
  const app = await startApp()
  const port = await freePort()
  const { config } = await onDisk({ ...fileFor(port, app.origin), store: { sqlite: 'op.db' } })
  const server = await running(config)
  const user = browser()
  const login = await user.open(loginUrl(config.issuer, app.origin))

  // a request whose body arrives when the OP has other keys already
  const pending = httpRequest(`${config.issuer}/token`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-www-form-urlencoded', 'content-length': '24' },
  })
  pending.flushHeaders()
  const answered = once(pending, 'response') as Promise<[IncomingMessage]>
  await kidsOf(config) // by now the other request has reached the OP too
  const store = openStore(config)
  onTestFinished(() => store.close())
  const [stolen = ''] = await kidsOf(config)
  await rotateServerKeys(store, config, { compromised: [stolen] })
  const taken = server.takeUpKeys()
  await vi.waitFor(async () => expect(await kidsOf(config)).not.toContain(stolen))
  pending.end('grant_type=nothing&a=bcd')
  const [response] = await answered
  expect(response.statusCode).toBe(400)
  response.resume()
  await taken

  const landed = await user.submit(login, { username: 'ada', password: 'analytical' })
  expect(landed.url).toContain(`${app.origin}/callback?code=`)
  const asked = await user.open(`${config.issuer}/session/end`)
  await user.submit(asked, { answer: 'yes' })
  await vi.waitFor(() => expect(app.logoutTokens).toHaveLength(1))
  expect(await kidsOf(config)).toContain(decodeProtectedHeader(app.logoutTokens[0] ?? '').kid)
})

it('speaks TLS itself', async () => {
  const port = await freePort()
  const certificate = selfSigned()
  const { config, folder } = await onDisk({
    issuer: `https://localhost:${port}`,
    listen: { host: '127.0.0.1', port },
    tls: { cert: 'op.crt', key: 'op.pem' },
  })
  await expect(running(config)).rejects.toThrow(`"tls.cert" cannot be read at ${join(folder, 'op.crt')} (ENOENT)`)
  writeFileSync(join(folder, 'op.crt'), certificate.cert)
  writeFileSync(join(folder, 'op.pem'), selfSigned().key)
  await expect(running(config)).rejects.toThrow('"tls" cannot be used')
  writeFileSync(join(folder, 'op.pem'), certificate.key)
  await running(config)
  const before = getCACertificates('default')
  setDefaultCACertificates([...before, certificate.cert])
  onTestFinished(() => setDefaultCACertificates(before))
  const metadata = await (await fetch(`${config.issuer}/.well-known/openid-configuration`)).json()
  expect(metadata).toMatchObject({ issuer: config.issuer, end_session_endpoint: `${config.issuer}/session/end` })
})

it.each([
  ['where it speaks TLS itself', { cert: 'op.crt', key: 'op.pem' }, undefined],
  ['behind a TLS proxy, but for the one which that added', undefined, '203.0.113.9'],
])('believes no forwarded address %s', (_where, tls, address) => {
  const request = Object.assign(new IncomingMessage(new Socket()), { url: '/auth', method: 'GET' })
  Object.assign(request.headers, { host: 'op.example', 'x-forwarded-for': '198.51.100.1, 203.0.113.9' })
  const admits = gateOf({ issuer: 'https://op.example', listen: { port: 443 }, tls })
  expect(admits(request, new ServerResponse(request))).toBe(true)
  expect(request.headers['x-forwarded-for']).toBe(address)
})

it.each(['RS256', 'PS256', 'ES256', 'EdDSA'])('signs with %s when its file says so', async (alg) => {
  const port = await freePort()
  const { op } = await running(parseConfig('op.json', { ...fileFor(port, 'http://127.0.0.1:9'), signing_alg: alg }))
  const client = await op.Client.find('notes')
  if (!client) throw new Error('no client')
  const token = new op.IdToken({ sub: 'ada' }, { client })
  expect(decodeProtectedHeader(await token.issue({ use: 'idtoken' })).alg).toBe(alg)
})

it.each<[string, Record<string, unknown>]>([
  ['"signing_alg"', { signing_alg: 'HS256' }],
  ['"tls.key" is missing', { tls: { cert: 'op.crt' } }],
  ['"tls" needs an "issuer" that is an https URL', { tls: { cert: 'a', key: 'b' } }],
  ['"secrets.keyfile"', { secrets: { keyfile: 'x' } }],
])('refuses a file with a wrong %s', (complaint, more) => {
  expect(() => parseConfig('op.json', { ...fileFor(4000, 'http://127.0.0.1:9'), ...more })).toThrow(complaint)
})

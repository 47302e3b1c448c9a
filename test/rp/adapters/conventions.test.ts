import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import express from 'express'
import { afterEach, describe, expect, it } from 'vitest'
import { createRelyingParty, type RelyingParty } from '../../../src/rp.ts'
import { auth, requireLogin } from '../../../src/rp-express.ts'
import { memoryStore } from '../../../src/rp-memory.ts'
import { type Kept, startWorld, type TestWorld } from '../support.ts'

/* What holds for every adapter, because all stand on the same core. */

let world: TestWorld | undefined

afterEach(async () => {
  await world?.close()
  world = undefined
})

const root = resolve(import.meta.dirname, '../../..')
const { exports } = JSON.parse(readFileSync(resolve(root, 'package.json'), 'utf8')) as {
  exports: Record<string, unknown>
}
const entries = Object.keys(exports).filter((entry) => entry.startsWith('./rp'))

describe('every adapter', () => {
  it.each(entries)('%s adds no name to the global object and changes none of the built-ins', (entry) => {
    const script = `
      const shapes = () => JSON.stringify([globalThis, Object.prototype, Function.prototype, Promise.prototype,
        Request.prototype, Response.prototype, Headers.prototype].map((one) => Object.getOwnPropertyNames(one)))
      const before = shapes()
      await import('lockstep${entry.slice(1)}')
      if (shapes() !== before) throw new Error('something is new')`
    const args = ['-C', '@lockstep/source', '--input-type=module', '-e', script]
    expect(execFileSync(process.execPath, args, { cwd: root, encoding: 'utf8' })).toBe('')
  })

  it('takes host and scheme from appUrl: no header of a proxy or an attacker decides [T21]', async () => {
    world = await startWorld()
    const { app, newAgent } = world
    const headers = {
      'sec-fetch-dest': 'document',
      'x-forwarded-host': 'evil.example',
      'x-forwarded-proto': 'https',
      forwarded: 'host=evil.example;proto=https',
    }
    const page = await newAgent().fetch(app.url, '/auth/login', { headers })
    expect(new URL(page.header('location') ?? '').searchParams.get('redirect_uri')).toBe(`${app.url}/auth/callback`)
  })
})

describe('two relying parties in one app', () => {
  it('do not open what the other guards, whichever was asked first [T20]', async () => {
    const seconds: RelyingParty<Kept>[] = []
    world = await startWorld({
      mount: async (rp) => {
        const second = createRelyingParty({
          issuer: 'https://another-op.example',
          clientId: 'second',
          clientSecret: 'secret',
          appUrl: 'http://localhost',
          prefix: '/second',
          store: memoryStore(),
          mapSession: ({ name }): Kept => ({ name }),
        })
        seconds.push(second)
        const shell = express().use(auth(rp)).use(auth(second))
        shell.get('/me', requireLogin(rp), (req, res) => void res.send(`Hello ${req.rpSession.data.name}`))
        shell.get('/second-only', requireLogin(second), (_req, res) => void res.send('secret'))
        shell.get('/both', requireLogin(rp), requireLogin(second), (_req, res) => void res.send('secret'))
        return shell
      },
    })
    const { app, newAgent, signIn } = world
    const agent = newAgent()
    expect((await signIn(agent, app)).body).toBe('Hello the one called ada')
    for (const path of ['/second-only', '/both']) {
      expect((await agent.fetch(app.url, path)).status).toBe(401)
    }
    expect((await agent.fetch(app.url, '/me')).status).toBe(200)
    for (const second of seconds) await second.close()
  })
})

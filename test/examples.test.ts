import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { afterEach, describe, expect, it } from 'vitest'

const root = resolve(import.meta.dirname, '..', 'examples')
let child: ChildProcess | undefined

afterEach(() => {
  child?.kill('SIGKILL')
})

/** Starts an example on a free port and waits until it says which. */
async function start(name: string): Promise<string> {
  const program = spawn(process.execPath, ['-C', '@lockstep/source', 'main.ts'], {
    cwd: resolve(root, name),
    env: { ...process.env, PORT: '0' },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  child = program
  for await (const line of createInterface({ input: program.stdout })) {
    const port = /port: (\d+)/.exec(line)?.[1]
    if (port !== undefined) return `http://127.0.0.1:${port}`
  }
  throw new Error(`examples/${name} ended before it listened`)
}

/** Where those send the browser that have a login of their own. */
const logins: Readonly<Record<string, string>> = { stateless: '/login' }

describe('an example app', () => {
  const names = readdirSync(root, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && entry.name !== 'broker') // test/flows/cascade.test.ts starts that one
    .map((entry) => entry.name)
    .filter((name) => name !== 'next') // built and started by e2e/next

  it.each(names)('%s starts without its OP, answers, and stops when it is told to', async (name) => {
    const url = await start(name)
    const home = await fetch(`${url}/`)
    expect(home.status).toBe(200)
    expect(home.headers.get('content-type')).toMatch(/^text\/html/)
    expect(await home.text()).toContain('Sign in')
    const me = await fetch(`${url}/me`, { redirect: 'manual', headers: { accept: 'text/html' } })
    expect([me.status, me.headers.get('location')]).toEqual([303, logins[name] ?? '/auth/login?return_to=%2Fme&by=app'])
    const session = await fetch(`${url}/auth/session`)
    expect([session.status, await session.json()]).toEqual([401, { state: 'none' }])
    const ended = once(child as ChildProcess, 'exit')
    child?.kill('SIGTERM')
    expect(await ended).toEqual([0, null])
  })
})

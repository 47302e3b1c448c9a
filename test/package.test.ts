import { execFileSync, spawnSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'

const root = resolve(import.meta.dirname, '..')
const entries = Object.keys(
  (JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { exports: Record<string, unknown> }).exports,
).filter((entry) => entry !== './package.json')

/* What a user installs: the packed tarball, unpacked beside the dependencies of this checkout. */
describe('the packed package', () => {
  const folder = mkdtempSync(join(tmpdir(), 'lockstep-pack-'))
  const run = (file: string): string => execFileSync(process.execPath, [file], { cwd: folder, encoding: 'utf8' })

  beforeAll(() => {
    execFileSync('npm', ['pack', '--silent', '--pack-destination', folder], { cwd: root })
    const tarball = readdirSync(folder).find((name) => name.endsWith('.tgz')) as string
    const modules = join(folder, 'node_modules')
    mkdirSync(join(modules, 'lockstep'), { recursive: true })
    execFileSync('tar', ['-xzf', join(folder, tarball), '--strip-components=1', '-C', join(modules, 'lockstep')])
    for (const name of readdirSync(join(root, 'node_modules'))) {
      if (name !== 'lockstep' && !name.startsWith('.'))
        symlinkSync(join(root, 'node_modules', name), join(modules, name))
    }
  }, 120_000)
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  it('lets an ES module import every entry', () => {
    const names = entries.map((entry) => `lockstep${entry.slice(1)}`)
    const lines = names.map(
      (name) => `console.log(${JSON.stringify(name)}, Object.keys(await import('${name}')).length)`,
    )
    writeFileSync(join(folder, 'all.mjs'), lines.join('\n'))
    const answer = run('all.mjs').trim().split('\n')
    expect(answer.map((line) => line.split(' ')[0])).toEqual(names)
  })

  it('lets a CommonJS app require every entry: no module awaits at its top level [every 9]', () => {
    const lines = entries.map((entry) => `require('lockstep${entry.slice(1)}')`)
    writeFileSync(join(folder, 'all.cjs'), `${lines.join('\n')}\nconsole.log('all required')`)
    expect(run('all.cjs').trim()).toBe('all required')
  })

  it('compiles in a CommonJS app of TypeScript that checks the types of its libraries, and runs there [every 9]', () => {
    const app = join(folder, 'typed')
    mkdirSync(app)
    writeFileSync(join(app, 'package.json'), '{ "type": "commonjs" }')
    const names = entries.map((entry, index) => `import * as entry${index} from 'lockstep${entry.slice(1)}'`)
    writeFileSync(
      join(app, 'app.ts'),
      `${names.join('\n')}
import express from 'express'
import { createRelyingParty } from 'lockstep/rp'
import { auth, requireLogin } from 'lockstep/rp/express'
import { memoryStore } from 'lockstep/rp/memory'

const store = memoryStore()
const rp = createRelyingParty({
  issuer: 'https://op.example', clientId: 'notes', clientSecret: 'secret', appUrl: 'https://notes.example',
  store, mapSession: (claims) => ({ name: claims.sub }),
})
const app = express().use(auth(rp))
app.get('/', requireLogin(rp), (req, res) => void res.send(req.rpSession.data.name.toUpperCase()))
console.log([${names.map((_, index) => `entry${index}`).join(', ')}].map((entry) => Object.keys(entry).length > 0).join())
void rp.close().then(() => store.close())
`,
    )
    const options = ['--module', 'nodenext', '--target', 'es2023', '--strict', '--types', 'node', '--outDir', 'out']
    const { stdout } = spawnSync(join(root, 'node_modules/.bin/tsc'), [...options, '--rootDir', '.', 'app.ts'], {
      cwd: app,
      encoding: 'utf8',
    })
    // @types/koa is at odds with a package of its own
    expect(stdout.split('\n').filter((line) => line !== '' && !line.includes('/node_modules/@types/'))).toEqual([])
    expect(readFileSync(join(app, 'out/app.js'), 'utf8')).toContain('require("lockstep/rp")')
    expect(run('typed/out/app.js').trim()).toBe(entries.map(() => 'true').join())
  })

  it('carries types, sources and the two files that browsers load', () => {
    const inside = join(folder, 'node_modules', 'lockstep')
    for (const file of [
      'dist/op.d.ts',
      'src/op.ts',
      'dist/served/session-monitor.js',
      'dist/served/op-iframe.js',
      'LICENSE',
    ]) {
      expect(existsSync(join(inside, file)), file).toBe(true)
    }
  })
})

describe('what npm ci installs here', () => {
  const read = (file: string): unknown => JSON.parse(readFileSync(join(root, file), 'utf8'))
  const { packages } = read('package-lock.json') as {
    packages: Record<string, { integrity?: string; link?: true; resolved?: string; hasInstallScript?: true }>
  }
  const installed = Object.entries(packages).filter(([path, { link }]) => path.includes('node_modules/') && !link)

  it('runs the install scripts of two packages, which are approved by name, and of no other [T32]', () => {
    const { allowScripts } = read('package.json') as { allowScripts: Record<string, boolean> }
    const withScript = installed.filter(([, { hasInstallScript }]) => hasInstallScript)
    expect(withScript.map(([path]) => path.replace(/.*node_modules\//, '')).sort()).toEqual(['esbuild', 'node'])
    expect(allowScripts).toEqual({ esbuild: true, node: true })
  })

  it('is compared, package by package, with a hash in the lockfile [T32]', () => {
    expect(installed.length).toBeGreaterThan(100)
    expect(
      installed.filter(([, { integrity = '' }]) => !integrity.startsWith('sha512-')).map(([path]) => path),
    ).toEqual([])
  })
})

import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'

const root = fileURLToPath(new URL('..', import.meta.url))

// What it measured in seconds means nothing; that it measures everything does.
it('the bench of the tab runs to its end and has every figure', () => {
  const json = execFileSync('npm', ['run', '--silent', 'bench', '--', 'tab', '--short', '--json'], {
    cwd: root,
    encoding: 'utf8',
  })
  const { name, figures } = JSON.parse(json)
  expect(name).toBe('tab')
  const ids = figures.map(({ id }: { id: string }) => id)
  expect(new Set(ids).size).toBe(ids.length)
  for (const what of ['size', 'signed out, a real tab', 'signed out, 2 open tabs', 'idle, requests']) {
    expect(ids.some((id: string) => id.startsWith(what))).toBe(true)
  }
  for (const { id, ours } of figures) expect(ours, id).toSatisfy(Number.isFinite)
}, 240_000)

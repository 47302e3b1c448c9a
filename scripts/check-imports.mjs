// Prints each import that goes against the direction of the story: `protocol` and `runtime` are leaves, `op`, `rp` and
// `browser` use them and never each other, apps and tests of the whole import published entries only.
import { globSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'

const mayUse = {
  protocol: ['protocol'],
  runtime: ['runtime', 'protocol'],
  op: ['op', 'runtime', 'protocol'],
  rp: ['rp', 'runtime', 'protocol'],
  browser: ['browser', 'protocol'],
  testing: ['testing', 'op', 'rp', 'browser', 'runtime', 'protocol'],
}
const outsiders = ['apps', 'e2e', 'bench', 'conformance', 'examples']
const importOf =
  /^\s*(?:import|export)\b[^'"]*?from\s*['"]([^'"]+)['"]|^\s*import\s*['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]/gm

const found = []
for (const file of globSync('{src,apps,e2e,bench,conformance,examples}/**/*.{ts,mts,mjs,js}', {
  exclude: ['**/node_modules/**', '**/dist/**'],
})) {
  const [top, side = ''] = file.split('/')
  for (const match of readFileSync(file, 'utf8').matchAll(importOf)) {
    const name = match[1] ?? match[2] ?? match[3] ?? ''
    const target = name.startsWith('.') ? normalize(join(dirname(file), name)) : name
    if (outsiders.includes(top)) {
      if (target.startsWith('src/')) found.push(`${file}: imports ${name}; use a published entry (lockstep/...)`)
      continue
    }
    const isEntry = !file.slice('src/'.length).includes('/')
    if (isEntry) continue
    if (side === 'protocol' && name.startsWith('node:')) found.push(`${file}: imports ${name}; protocol runs anywhere`)
    if (side === 'browser' && !name.startsWith('.'))
      found.push(`${file}: imports ${name}; the browser side has no dependencies`)
    if (!target.startsWith('src/')) continue
    const targetSide = target.split('/')[1]
    if (!mayUse[side]?.includes(targetSide)) found.push(`${file}: ${side} imports ${targetSide} (${name})`)
  }
}
for (const line of found) console.error(line)
process.exit(found.length > 0 ? 1 : 0)

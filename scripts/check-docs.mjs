// Compiles every ```ts fence of README.md and docs/, each as a module of its own, and checks that links inside the
// repository lead somewhere, and to a heading that is there. Names a fence uses without declaring them (`app`, `issuer`) are declared in docs/fences.d.ts.
import { spawnSync } from 'node:child_process'
import { existsSync, globSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'

const root = resolve(import.meta.dirname, '..')
const folder = join(root, 'node_modules', '.cache', 'lockstep-docs')
rmSync(folder, { recursive: true, force: true })
mkdirSync(folder, { recursive: true })

const problems = []
const origin = new Map()
for (const file of ['README.md', 'CHANGELOG.md', ...globSync('docs/**/*.md', { cwd: root })]) {
  if (!existsSync(join(root, file))) continue
  const text = readFileSync(join(root, file), 'utf8')
  let index = 0
  for (const [, code] of text.matchAll(/```ts\n([\s\S]*?)```/g)) {
    const name = `${file.replaceAll(/[/.]/g, '-')}-${++index}.ts`
    origin.set(name, `${file}, fence ${index}`)
    writeFileSync(join(folder, name), `${code}\nexport {}\n`)
  }
  for (const [, target] of text.matchAll(/\]\((?!https?:|#|mailto:)([^)#\s]+)[^)]*\)/g)) {
    if (!existsSync(join(root, dirname(file), target))) problems.push(`${file}: the link ${target} leads nowhere`)
  }
  for (const [, target, heading] of text.matchAll(/\]\(([^):#\s]*)#([^)\s]+)\)/g)) {
    const other = target === '' ? join(root, file) : join(root, dirname(file), target)
    if (!other.endsWith('.md') || !existsSync(other) || headingsOf(other).has(heading)) continue
    problems.push(`${file}: ${target} has no heading #${heading}`)
  }
}

/** The names that headings have in links. */
function headingsOf(file) {
  const titles = [...readFileSync(file, 'utf8').matchAll(/^#+ (.*)$/gm)].map(([, title]) => title)
  return new Set(
    titles.map((title) =>
      title
        .toLowerCase()
        .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
        .trim()
        .replaceAll(/\s/g, '-'),
    ),
  )
}

const config = {
  extends: join(root, 'tsconfig.json'),
  compilerOptions: {
    isolatedDeclarations: false,
    declaration: false,
    noUnusedLocals: false,
    typeRoots: [join(root, 'node_modules/@types')],
  },
  include: [`${folder}/*.ts`, join(root, 'docs/*.d.ts')],
  exclude: [],
}
writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(config))
const { stdout, status } = spawnSync('tsc', ['-p', folder], { encoding: 'utf8' })
if (status !== 0) {
  problems.push(stdout.replaceAll(/[^\s(]*lockstep-docs\/([\w-]+\.ts)/g, (_, name) => origin.get(name) ?? name).trim())
}
for (const problem of problems) console.error(problem)
console.log(`${origin.size} fences compiled`)
process.exit(problems.length > 0 ? 1 : 0)

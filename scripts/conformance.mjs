// Gathers the ids at the ends of all test names into docs/conformance.md, requirement by requirement. Fails when a
// requirement has neither a test nor a stated reason, when a test names an id that does not exist, and, with --check, when
// docs/conformance.md is not what it would write.
import { globSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

const root = resolve(import.meta.dirname, '..')
const output = join(root, 'docs/conformance.md')
const read = (file) => readFileSync(join(root, file), 'utf8')
const requirements = JSON.parse(read('conformance/requirements.json'))
const reasons = new Map(
  JSON.parse(read('conformance/reasons.json')).flatMap(({ reason, ids }) => ids.map((id) => [id, reason])),
)

const known = new Set(requirements.map(({ id }) => id))
const spellings = new Set(requirements.flatMap(({ also = [] }) => also))
const problems = []
const tests = new Map() // tag -> [{ file, name }]

const files = globSync('{test,e2e,conformance,src/testing}/**/*.ts', { cwd: root, exclude: ['**/node_modules/**'] })
for (const file of files.map((each) => each.replaceAll('\\', '/')).toSorted()) {
  for (const [, , literal] of read(file).matchAll(/(['"`])((?:\\.|(?!\1)[^\\\n])*)\1/g)) {
    const found = /^(.*?\S)((?:\s+\[[^[\]]+\])+)$/.exec(literal)
    if (!found) continue
    const [, name, tags] = found
    for (const tag of [...tags.matchAll(/\[([^\]]+)\]/g)].flatMap(([, inner]) => inner.split(/,\s*/)).flatMap(expand)) {
      if (/^(?:(?:SM|RPI|FCL|BCL|PC)-\d|[AET]\d+$|oidcc-)/.test(tag) && !known.has(tag) && !spellings.has(tag)) {
        problems.push(`${file}: "${name}" names ${tag}, which is no requirement in conformance/requirements.json`)
      }
      tests.set(tag, [...(tests.get(tag) ?? []), { file, name: name.replaceAll("\\'", "'") }])
    }
  }
}

/** `SM-2-a/b` names two ids, `E1-E3` three. */
function expand(tag) {
  const range = /^([AET])(\d+)-\1?(\d+)$/.exec(tag)
  if (range) {
    const [, letter, from, to] = range
    return Array.from({ length: Number(to) - Number(from) + 1 }, (_, i) => `${letter}${Number(from) + i}`)
  }
  const [first, ...others] = tag.split('/')
  if (others.length === 0 || !/^(?:SM|RPI|FCL|BCL|PC)-/.test(tag)) return [tag]
  const stem = first.slice(0, first.lastIndexOf('-') + 1)
  return [first, ...others.map((end) => stem + end)]
}

const sections = [
  ['Session Management 1.0', /^SM-/],
  ['RP-Initiated Logout 1.0', /^RPI-/],
  ['Front-Channel Logout 1.0', /^FCL-/],
  ['Back-Channel Logout 1.0', /^BCL-/],
  ['Initiating User Registration (prompt=create) 1.0', /^PC-/],
  ['Errors', /^E\d/],
  ['Threats', /^T\d/],
  ['Bad and hostile input to an RP', /^A\d/],
  ['Modules of the OpenID Foundation’s conformance suite, for OPs', /^oidcc-(?!client-)/],
  ['Modules of the OpenID Foundation’s conformance suite, for RPs', /^oidcc-client-/],
]

const count = { tests: 0, reasons: 0 }
const body = sections.map(([title, pattern]) => {
  const rows = requirements.filter(({ id }) => pattern.test(id)).map(rowOf)
  return `## ${title}\n\n| id | party | requirement | held by |\n|---|---|---|---|\n${rows.join('\n')}\n`
})

function rowOf({ id, party, text, also = [] }) {
  const holding = new Map(
    [id, ...also].flatMap((tag) => tests.get(tag) ?? []).map((test) => [test.file + test.name, test]),
  )
  const reason = reasons.get(id)
  if (holding.size === 0 && reason === undefined) {
    problems.push(`${id} (${text}) has neither a test that ends with [${id}] nor a reason in conformance/reasons.json`)
  }
  if (holding.size > 0 && reason !== undefined) {
    console.log(`${id} has tests now: take its reason out of conformance/reasons.json`)
  }
  if (holding.size > 0) count.tests += 1
  else count.reasons += 1
  const byFile = Map.groupBy(holding.values(), ({ file }) => file)
  const cells = [...byFile].map(
    ([file, found]) => `[${file}](../${file}): ${found.map(({ name }) => cell(name)).join('; ')}`,
  )
  return `| ${id} | ${party} | ${cell(text)} | ${cells.join('<br>') || `No test. ${cell(reason ?? '')}`} |`
}

function cell(text) {
  return text.replaceAll('|', '\\|').replaceAll('<', '&lt;')
}

for (const id of reasons.keys()) {
  if (!known.has(id)) problems.push(`conformance/reasons.json: ${id} is no requirement`)
}

const document = `# Conformance

Which test holds which requirement. Written by \`npm run conformance\` from the names of the tests; requirements are listed in
[requirements.json](../conformance/requirements.json), and why one has no test in [reasons.json](../conformance/reasons.json).
The tests under [conformance/op](../conformance/op) speak only HTTP to the server program, those under
[conformance/rp](../conformance/rp) to an app; Chromium is there where a browser takes part.

${count.tests} requirements have tests, ${count.reasons} have none and say why.

${body.join('\n')}`

if (process.argv.includes('--check')) {
  const written = globSync('docs/conformance.md', { cwd: root }).length > 0 ? readFileSync(output, 'utf8') : ''
  if (written !== document) problems.push('docs/conformance.md is not up to date: npm run conformance')
} else {
  writeFileSync(output, document)
}
for (const problem of problems) console.error(problem)
console.log(`${count.tests} of ${requirements.length} requirements have tests`)
process.exit(problems.length > 0 ? 1 : 0)

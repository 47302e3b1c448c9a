// Bundles the scripts that the OP and the RP serve to browsers into dist/served. Does nothing when they are newer
// than everything they are made from.
import { mkdirSync, readdirSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const outdir = join(root, 'dist/served')

// Names of the monitor that no other script and no browser knows; they would be a hundredth of what is sent.
const ownNames =
  /^(after|arbiter|ask|belief|check|checkInterval|confirm|current|events|fetch|group|hear|lead|nap|openChannel|openFrame|sees|silentCheck|stop|tell|window)$/

const bundles = [
  { entry: 'src/browser/served.ts', file: 'session-monitor.js', mangleProps: ownNames },
  { entry: 'src/browser/served-op-iframe.ts', file: 'op-iframe.js' },
  { entry: 'src/browser/served-logout-page.ts', file: 'logout-page.js' },
]

const inputs = [fileURLToPath(import.meta.url), ...filesIn('src/browser'), ...filesIn('src/protocol')]
const newestInput = Math.max(...inputs.map((file) => statSync(file).mtimeMs))
const stale = bundles.filter(({ file }) => modifiedAt(join(outdir, file)) <= newestInput)

if (stale.length > 0) {
  mkdirSync(outdir, { recursive: true })
  await Promise.all(stale.map(bundle))
}

/** Bundles an entry as a module: pages include it with type="module". */
async function bundle({ entry, file, ...shorter }) {
  const { outputFiles } = await build({
    absWorkingDir: root,
    entryPoints: [entry],
    bundle: true,
    minify: true,
    ...shorter,
    write: false,
    format: 'esm',
    target: 'es2022',
    platform: 'browser',
    charset: 'utf8',
    legalComments: 'none',
    logLevel: 'warning',
  })
  // A process that serves the file while we build sees the old one or the new one, never half of it.
  const unfinished = join(outdir, `.${file}.${process.pid}`)
  writeFileSync(unfinished, outputFiles[0].contents)
  renameSync(unfinished, join(outdir, file))
}

function filesIn(folder) {
  return readdirSync(join(root, folder), { recursive: true })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => join(root, folder, name))
}

function modifiedAt(file) {
  return statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0
}

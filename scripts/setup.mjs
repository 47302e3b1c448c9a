/**
 * Makes a fresh clone ready to run: the packages of the lockfile, and the two scripts that browsers load.
 *
 * Runs before `npm start`, `npm test` and `npm run server`, on whatever Node (>= 20) there is; says nothing when there
 * is nothing to do. It replaces `node_modules`, so nothing of this project may run while packages change.
 */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const stampFile = join(root, 'node_modules', '.lockstep-lock')
const pinnedNode = join(root, 'node_modules', 'node', 'bin', process.platform === 'win32' ? 'node.exe' : 'node')
const lockfile = readFileSync(join(root, 'package-lock.json'))
const stamp = createHash('sha256').update(lockfile).digest('hex')

if (!isInstalled()) {
  console.log('Installing packages (npm ci); this happens once ...')
  run(npm(), ['ci', '--loglevel=error', '--no-audit', '--no-fund'], 'The packages could not be installed.')
  writeFileSync(stampFile, stamp)
}
if (!existsSync(pinnedNode) && Number(process.versions.node.split('.')[0]) < 24) {
  console.error('The package "node" has no program in it: npm did not run its install script. Run: npm rebuild node')
  process.exit(1)
}
run([process.execPath], [join(root, 'scripts', 'build-served.mjs')], 'The scripts for browsers could not be built.')

/** True when node_modules was made from this very lockfile, by us or by an `npm ci` that somebody ran. */
function isInstalled() {
  if (existsSync(stampFile) && readFileSync(stampFile, 'utf8') === stamp) return true
  const hidden = join(root, 'node_modules', '.package-lock.json')
  if (!existsSync(hidden)) return false
  const wanted = JSON.parse(lockfile.toString()).packages
  const found = JSON.parse(readFileSync(hidden, 'utf8')).packages
  const same = Object.entries(wanted).every(([path, entry]) => {
    if (path === '' || !path.includes('node_modules/')) return true
    if (!found[path]) return entry.optional === true
    return found[path].version === entry.version && found[path].integrity === entry.integrity
  })
  if (same) writeFileSync(stampFile, stamp)
  return same
}

/** The npm that runs us, else the one on PATH. */
function npm() {
  const { npm_execpath: path } = process.env
  if (path?.endsWith('.js')) return [process.execPath, path]
  return [process.platform === 'win32' ? 'npm.cmd' : 'npm']
}

function run([program, ...first], args, failed) {
  const shell = program.endsWith('.cmd')
  const { status, error } = spawnSync(program, [...first, ...args], { cwd: root, stdio: 'inherit', shell })
  if (status === 0) return
  console.error(`${failed}${error ? ` ${error.message}` : ''} The lines above say why.`)
  process.exit(status || 1)
}

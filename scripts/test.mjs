// `npm test`: type check, lint, import directions, unit and flow tests, the packed package, and every browser found.
// The last line says how many passed and failed; on Debian as root what is missing is installed first.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, delimiter, join } from 'node:path'

const inCi = process.env.CI === 'true'
const scratch = mkdtempSync(join(tmpdir(), 'lockstep-test-'))
const total = { passed: 0, failed: 0 }
const skipped = []

const run = (command, ...args) => spawnSync(command, args, { stdio: 'inherit' }).status === 0

function check(name, command, ...args) {
  console.log(`\n# ${name}`)
  if (run(command, ...args)) total.passed += 1
  else {
    total.failed += 1
    console.error(`${name}: failed`)
  }
}

/** Runs a vitest suite, or only those of its files whose paths hold one of `files`. */
function suite(name, config, ...files) {
  console.log(`\n# ${name}`)
  const report = join(scratch, `${name}.json`.replaceAll(' ', '-'))
  const ok = run(
    'vitest',
    'run',
    ...files,
    '--config',
    config,
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${report}`,
  )
  if (!existsSync(report)) {
    total.failed += 1
    return
  }
  const { numPassedTests, numFailedTests, testResults } = JSON.parse(readFileSync(report, 'utf8'))
  total.passed += numPassedTests
  total.failed += numFailedTests
  // those that had no PostgreSQL or Redis are told of below, with how to get it
  const isExcused = (test) => (!hasPostgres && /postgres/i.test(test)) || (!hasRedis && /redis/i.test(test))
  const marked = testResults
    .flatMap(({ name: file, assertionResults }) => assertionResults.map((test) => ({ ...test, file })))
    .filter(({ status }) => status !== 'passed' && status !== 'failed')
    .filter(({ file, fullName }) => !isExcused(`${basename(file)} ${fullName}`))
  if (marked.length > 0) skipped.push(`${marked.length} tests of "${name}" are marked as skipped`)
  if (!ok && numFailedTests === 0) total.failed += 1 // a file that did not load, or an error outside a test
}

/** Makes sure that a program is there, at one of its places; on Debian as root by installing it. */
function installed(name, places, ...packages) {
  if (places.some(existsSync)) return true
  if (process.getuid?.() !== 0 || !existsSync('/usr/bin/apt-get')) return false
  console.log(`\n# installing ${name} from the distribution`)
  run('apt-get', 'update', '-qq')
  return run('apt-get', 'install', '-y', '-qq', '--no-install-recommends', ...packages)
}

const chromium = () =>
  installed(
    'Chromium',
    ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'],
    'chromium',
    'fonts-liberation',
  )
const firefox = () => installed('Firefox', ['/usr/bin/firefox-esr', '/usr/bin/firefox'], 'firefox-esr')
/** Its driver opens windows, so it needs a display and a message bus, which are made for it. */
const webkit = () =>
  installed('WebKitGTK', ['/usr/bin/WebKitWebDriver'], 'webkit2gtk-driver') &&
  installed('Xvfb', ['/usr/bin/Xvfb'], 'xvfb', 'xauth') &&
  installed('D-Bus', ['/usr/bin/dbus-run-session'], 'dbus')
/** PostgreSQL's server programs; the tests run instances of their own from them. */
function postgres() {
  const isThere = () => {
    const debian = '/usr/lib/postgresql'
    const versions = existsSync(debian) ? readdirSync(debian).map((version) => join(debian, version, 'bin')) : []
    return [...versions, ...(process.env.PATH ?? '').split(delimiter)].some((folder) =>
      existsSync(join(folder, 'initdb')),
    )
  }
  if (isThere()) return true
  if (process.getuid?.() !== 0 || !existsSync('/usr/bin/apt-get')) return false
  console.log('\n# installing PostgreSQL from the distribution')
  if (!existsSync('/etc/postgresql-common/createcluster.conf')) {
    mkdirSync('/etc/postgresql-common', { recursive: true })
    writeFileSync('/etc/postgresql-common/createcluster.conf', 'create_main_cluster = false\n') // programs only, no service
  }
  run('apt-get', 'update', '-qq')
  return run('apt-get', 'install', '-y', '-qq', '--no-install-recommends', 'postgresql') && isThere()
}

/** Redis, likewise. */
function redis() {
  const isThere = () =>
    ['/usr/bin', '/usr/local/bin', '/opt/homebrew/bin', ...(process.env.PATH ?? '').split(delimiter)].some((folder) =>
      existsSync(join(folder, 'redis-server')),
    )
  if (isThere()) return true
  if (process.getuid?.() !== 0 || !existsSync('/usr/bin/apt-get')) return false
  console.log('\n# installing Redis from the distribution')
  run('apt-get', 'update', '-qq')
  return run('apt-get', 'install', '-y', '-qq', '--no-install-recommends', 'redis-server') && isThere()
}

const hasPostgres = postgres()
const hasRedis = redis()
if (!hasRedis) skipped.push('the Redis tests: install Redis 6.2 or newer (Debian: apt-get install redis-server)')
if (!hasPostgres) skipped.push('the PostgreSQL tests: install PostgreSQL (Debian: apt-get install postgresql)')
check('types', 'tsc', '-p', '.')
check('format and lint', 'biome', 'check', '.')
check('lint with types', 'oxlint', '--type-aware', '--deny-warnings')
check('import directions', process.execPath, 'scripts/check-imports.mjs')
check('docs', process.execPath, 'scripts/check-docs.mjs')
check('conformance list', process.execPath, 'scripts/conformance.mjs', '--check')
check('package build', 'npm', 'run', '--silent', 'build')
suite('unit and flows', 'vitest.config.ts')
suite('oldest oidc-provider', 'vitest.oldest.config.ts')
const cells = []
if (chromium()) {
  suite('conformance', 'conformance/vitest.config.ts')
  suite('browsers', 'e2e/vitest.config.ts')
  check('packages of the framework examples', 'npm', 'ci', '--prefix', 'e2e/frameworks', '--loglevel=error')
  suite('React and Vue', 'e2e/vitest.frameworks.config.ts')
  cells.push('matrix/chromium')
} else skipped.push('conformance and browser tests: install Chromium (Debian: apt-get install chromium)')
if (firefox()) cells.push('matrix/firefox')
else skipped.push("Firefox' cells: install Firefox (Debian: apt-get install firefox-esr)")
if (webkit()) cells.push('matrix/webkit')
else skipped.push("WebKit's cells: install WebKitGTK (Debian: apt-get install webkit2gtk-driver xvfb xauth dbus)")
if (cells.length > 0) suite('twelve cells', 'e2e/vitest.matrix.config.ts', ...cells)
// Next is 340 MB of packages that nothing else needs: in CI always, elsewhere where somebody has asked for it once.
if (inCi || existsSync('examples/next/node_modules')) {
  check('packages of the Next example', 'npm', 'ci', '--prefix', 'examples/next', '--loglevel=error')
  suite('Next example', 'e2e/vitest.next.config.ts')
} else skipped.push('the Next example, which needs 340 MB of packages: npm run test:next')
// Likewise, 120 MB: the oldest Node that package.json promises, built for Linux on x64.
if (inCi || existsSync('e2e/oldest-node/node_modules')) {
  check('oldest Node', 'npm', 'ci', '--prefix', 'e2e/oldest-node', '--loglevel=error')
  suite('oldest Node', 'e2e/vitest.oldest-node.config.ts')
} else skipped.push('what is built on the oldest Node: npm run test:oldest-node')
rmSync(scratch, { recursive: true })
for (const what of skipped) console.log(`skipped: ${what}`)
if (inCi && skipped.length > 0) total.failed += skipped.length // nothing may be skipped in CI
console.log(`\n${total.passed} passed, ${total.failed} failed`)
process.exit(total.failed > 0 ? 1 : 0)

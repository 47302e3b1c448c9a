/**
 * Runs the demo: an OP and two apps as three processes on loopback, with their data in one folder.
 *
 * When one of them dies the others go on; SIGINT or SIGTERM stops all.
 */
import { spawn } from 'node:child_process'
import { createWriteStream, existsSync, mkdirSync } from 'node:fs'
import { join, relative, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const USAGE = `Usage: npm start [-- [--port PORT] [--data DIR]]

  --port PORT  the OP listens on PORT, the apps on PORT+1 and PORT+2 (default 4000)
  --data DIR   folder of the SQLite files and logs (default .lockstep/data)`

const root = fileURLToPath(new URL('..', import.meta.url))
const { port, data } = readArguments()
const logs = join(data, 'logs')
makeFolder(logs)

const issuer = `http://localhost:${port}`
const inData = ['--data', relative(process.cwd(), data) || '.']
const programs = [
  {
    title: 'OpenID Provider',
    log: 'op',
    url: issuer,
    script: 'apps/server/main.ts',
    args: ['--demo', '--data', data, '--port', String(port)],
    again: ['npm run server -- --demo', ...inData, ...(port === 4000 ? [] : ['--port', port])],
  },
  ...['Notes', 'Mail'].map((name, i) => ({
    title: name,
    log: name.toLowerCase(),
    url: `http://${name.toLowerCase()}.localhost:${port + 1 + i}`,
    script: 'apps/demo-rp/main.ts',
    args: ['--name', name, '--port', String(port + 1 + i), '--issuer', issuer, '--data', data],
    again: [
      'npm run app -- --name',
      name,
      ...inData,
      ...(port === 4000 ? [] : ['--port', port + 1 + i, '--issuer', issuer]),
    ],
  })),
]

let stopping = false
let started = false
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => stopAll(0))

await Promise.all(programs.map(start))
if (!stopping) {
  started = true
  welcome()
}

/** Starts one program; resolves when it listens, or when it is clear that it never will. */
function start(program) {
  const { title, script, args } = program
  const child = spawn(runtime(), ['-C', '@lockstep/source', join(root, script), ...args], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'], // with the channel a child notices when this process is killed
  })
  program.child = child
  const file = createWriteStream(join(logs, `${program.log}.log`), { flags: 'a' })
  let last = ''

  return new Promise((listening) => {
    createInterface({ input: child.stdout }).on('line', (line) => {
      file.write(`${line}\n`)
      if (line.includes('"event":"listening"')) listening()
    })
    createInterface({ input: child.stderr }).on('line', (line) => {
      file.write(`${line}\n`)
      if (line !== '') last = line
      if (started && !stopping) console.error(`${title}: ${line}`)
    })
    child.on('close', (code, signal) => {
      program.child = undefined
      file.end()
      listening()
      if (stopping) return
      if (started) reportDeath(program, child.pid, code, signal)
      else giveUp(program, last, code, signal)
    })
  })
}

/** The Node this project is pinned to, whichever one runs this script. */
function runtime() {
  const pinned = join(root, 'node_modules', 'node', 'bin', process.platform === 'win32' ? 'node.exe' : 'node')
  return existsSync(pinned) ? pinned : process.execPath
}

function reportDeath({ title, again }, pid, code, signal) {
  console.error(`${title} (pid ${pid}) ended ${ending(code, signal)}; the others go on.`)
  console.error(`Start it again in another terminal: ${again.join(' ')}`)
  if (programs.every(({ child }) => child === undefined)) {
    console.error('Nothing is left running.')
    process.exit(1)
  }
}

function giveUp({ title, log }, last, code, signal) {
  const [inUse] = /^Port \d+ on \S+ is in use\./.exec(last) ?? []
  const advice = `Stop what listens there, or choose three other ports: npm start -- --port PORT (the OP's; the apps take the next two).`
  console.error(`${title} did not start: ${inUse ? `${inUse} ${advice}` : last || ending(code, signal)}`)
  if (code !== 2) console.error(`Its log is ${join(logs, `${log}.log`)}.`)
  stopAll(code === 2 ? 2 : 1)
}

function ending(code, signal) {
  return signal ? `by ${signal}` : `with code ${code}`
}

function stopAll(code) {
  if (stopping) return
  stopping = true
  process.exitCode = code
  for (const { child } of programs) child?.kill('SIGTERM')
  const left = () => programs.filter(({ child }) => child !== undefined)
  const patience = setTimeout(() => {
    for (const { child } of left()) child.kill('SIGKILL')
  }, 8000)
  const wait = setInterval(() => {
    if (left().length > 0) return
    clearInterval(wait)
    clearTimeout(patience)
  }, 20)
}

function welcome() {
  const width = Math.max(...programs.map(({ url }) => url.length))
  const rows = programs.map(
    ({ title, url, child }) => `  ${title.padEnd(17)}${url.padEnd(width)}  pid ${child?.pid ?? '-'}`,
  )
  console.log(`
Lockstep's demo is running:

${rows.join('\n')}

Try it (in Chromium or Firefox; WebKit refuses Secure cookies on http):

  1. Open Notes and Mail in two tabs and sign in; the login page offers accounts.
  2. Sign out in one of them and watch the other's tab sign out by itself, in the background too.
  3. Kill any of the three (kill -9 PID) and sign out: when it is back, it makes up for what it missed.

Data and logs are in ${relative(process.cwd(), data) || '.'}. Ctrl-C stops all three.
`)
}

function readArguments() {
  try {
    const options = { port: { type: 'string' }, data: { type: 'string' }, help: { type: 'boolean', short: 'h' } }
    const { values } = parseArgs({ options })
    if (values.help) {
      console.log(USAGE)
      process.exit(0)
    }
    const given = Number(values.port ?? 4000)
    if (!Number.isInteger(given) || given < 1 || given > 65_533) {
      throw new Error(`--port must be a whole number from 1 to 65533, not "${values.port}"`)
    }
    return { port: given, data: resolve(values.data ?? join(root, '.lockstep', 'data')) }
  } catch (error) {
    console.error(`${error.message.split('. ')[0]}. --help shows what there is.`)
    process.exit(2)
  }
}

function makeFolder(folder) {
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 })
  } catch (error) {
    console.error(`The data folder ${folder} cannot be made (${error.code}). Choose another with --data.`)
    process.exit(2)
  }
}

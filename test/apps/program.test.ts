import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { start } from './start-program.ts'
import { fileFor, freePort, scratchFolder } from './support.ts'

/** A port that somebody else listens on. */
async function takenPort(): Promise<number> {
  const other = createServer().listen(0, '127.0.0.1')
  await once(other, 'listening')
  onTestFinished(() => {
    other.close()
  })
  return (other.address() as AddressInfo).port
}

it('leaves with code 2 and one line when it is told nothing', async () => {
  const { code, stderr, stdout } = await start('server').closed
  expect({ code, stderr, stdout }).toEqual({
    code: 2,
    stderr: 'Say either --config FILE or --demo; --help shows more.\n',
    stdout: '',
  })
})

it('leaves with code 2 and one line when its file is wrong', async () => {
  const file = join(scratchFolder(), 'op.json')
  const { accounts: _accounts, ...rest } = fileFor(4000, 'http://127.0.0.1:9')
  writeFileSync(file, JSON.stringify(rest))
  const { code, stderr } = await start('server', '--config', file).closed
  expect(code).toBe(2)
  expect(stderr).toBe('op.json: "accounts" is missing. Write a list of accounts, each with username and password.\n')
})

it('leaves with code 2 and one line when its port is in use', async () => {
  const port = await takenPort()
  const { code, stderr } = await start('server', '--demo', '--data', scratchFolder(), '--port', String(port)).closed
  expect(code).toBe(2)
  expect(stderr).toBe(
    `Port ${port} on 127.0.0.1 is in use. Stop what listens there, or choose another port with --port.\n`,
  )
})

it('leaves with code 2 when http or the demo would be reachable from elsewhere [T22]', async () => {
  const file = join(scratchFolder(), 'op.json')
  writeFileSync(
    file,
    JSON.stringify({ ...fileFor(4000, 'http://127.0.0.1:9'), listen: { host: '0.0.0.0', port: 4000 } }),
  )
  const { code, stderr } = await start('server', '--config', file).closed
  expect(code).toBe(2)
  expect(stderr).toMatch(/^op\.json: "issuer" may use http only where .*\n$/)
})

it('starts from a file and stops in order on SIGTERM', async () => {
  const port = await freePort()
  const file = join(scratchFolder(), 'op.json')
  writeFileSync(file, JSON.stringify({ ...fileFor(port, 'http://127.0.0.1:9'), store: { sqlite: 'op.db' } }))
  const { child, closed, listening } = start('server', '--config', file)
  expect(await listening).toMatchObject({ url: `http://localhost:${port}`, pid: child.pid })
  child.kill('SIGTERM')
  expect(await closed).toMatchObject({ code: 0, stderr: '' })
})

it('leaves with code 2 and says why when another one runs on its SQLite file', async () => {
  const data = scratchFolder()
  const demo = async () => start('server', '--demo', '--data', data, '--port', String(await freePort()))
  await (await demo()).listening
  const { code, stderr } = await (await demo()).closed
  expect(code).toBe(2)
  expect(stderr).toMatch(/^SQLite file \S+ is in use by another OP: .*\n$/m)
})

it('starts a demo app whose OP is not there, and stops it in order', async () => {
  const port = await freePort()
  const issuer = `http://localhost:${await freePort()}`
  const { child, closed, listening } = start(
    'app',
    '--name',
    'Notes',
    '--port',
    String(port),
    '--issuer',
    issuer,
    '--data',
    scratchFolder(),
  )
  expect(await listening).toMatchObject({ url: `http://notes.localhost:${port}` })
  child.kill('SIGTERM')
  expect((await closed).code).toBe(0)
})

it.each([
  ['--issuer', () => 'not a url', /^--issuer must be an absolute URL\.\n$/],
  ['--issuer', () => 'ftp://op.example', /^--issuer must be an https URL\.\n$/],
  ['--issuer', () => 'http://op.example', /^--issuer must be https; http is only for this machine\.\n$/],
  ['--issuer', () => 'https://me:secret@op.example', /^--issuer must not have credentials or a fragment\.\n$/],
  ['--port', () => '0x10', /^--port must be a whole number from 1 to 65535, not "0x10"\.\n$/],
  ['--port', () => ' 4001', /^--port must be a whole number from 1 to 65535, not " 4001"\.\n$/],
  ['--data', aFile, /^The data folder .* cannot be made \(E[A-Z]+\)\. Choose another with --data\.\n$/],
  [
    '--data',
    aFolderWithALetter,
    /^The file .*notes\.db cannot be used: .*not a database.* Choose another folder with --data\.\n$/,
  ],
])('a demo app whose %s is wrong leaves with code 2 and one line', async (option, value, line) => {
  const defaults = ['--port', String(await freePort()), '--data', scratchFolder()]
  const { code, stderr } = await start('app', '--name', 'Notes', ...defaults, option, value()).closed
  expect(code).toBe(2)
  expect(stderr).toMatch(line)
})

function aFile(): string {
  const file = join(scratchFolder(), 'file')
  writeFileSync(file, '')
  return file
}

function aFolderWithALetter(): string {
  const folder = scratchFolder()
  writeFileSync(
    join(folder, 'notes.db'),
    'Dear Ada, this is no database at all, however long it may become. '.repeat(50),
  )
  return folder
}

it('leaves with code 2 when a demo app is told to be another, or its port is in use', async () => {
  expect(await start('app', '--name', 'Chess').closed).toMatchObject({
    code: 2,
    stderr: '--name must be Notes or Mail. --help shows more.\n',
  })
  const port = await takenPort()
  const { code, stderr } = await start('app', '--name', 'Mail', '--port', String(port), '--data', scratchFolder())
    .closed
  expect(code).toBe(2)
  expect(stderr).toBe(`Port ${port} on 127.0.0.1 is in use. Stop what listens there, or choose another with --port.\n`)
})

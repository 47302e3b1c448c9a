import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { browser, freePort, scratchFolder } from './support.ts'

/** The first of three ports in a row that nobody uses. */
async function threePorts(): Promise<number> {
  for (;;) {
    const first = await freePort()
    const free = await Promise.all([first, first + 1, first + 2].map(isFree))
    if (first < 65_533 && free.every(Boolean)) return first
  }
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer()
  try {
    await once(server.listen(port, '127.0.0.1'), 'listening')
    return true
  } catch {
    return false
  } finally {
    server.close()
  }
}

/** Everything a process says, and a way to wait for words in it. */
function launch(...args: string[]) {
  const child = spawn(process.execPath, ['scripts/start.mjs', ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
  onTestFinished(() => {
    child.kill('SIGKILL') // its children notice and leave
  })
  let said = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk) => {
      said += String(chunk)
    })
  }
  const ended = once(child, 'close').then(([code]) => ({ code: code as number | null, said }))
  const says = (pattern: RegExp): Promise<RegExpExecArray> =>
    new Promise((resolve, reject) => {
      const look = (): void => {
        const found = pattern.exec(said)
        if (found) resolve(found)
      }
      look()
      for (const stream of [child.stdout, child.stderr]) stream.on('data', look)
      void ended.then(() => reject(new Error(`it ended without saying ${pattern}: ${said}`)))
    })
  return { child, ended, says }
}

async function stopped({ child, ended }: { child: ChildProcess; ended: Promise<{ code: number | null }> }) {
  child.kill('SIGTERM')
  return (await ended).code
}

it('runs an OP and two apps, says where they are, and stops all of them', async () => {
  const port = await threePorts()
  const data = scratchFolder()
  const demo = launch('--port', String(port), '--data', data)
  const [said] = await demo.says(/[\s\S]*Ctrl-C stops all three/)
  expect(said.match(/http:\/\/[a-z.]*localhost:\d+ +pid \d+/g)).toHaveLength(3)
  expect(said).toContain('Chromium or Firefox')

  const welcome = await browser().open(`http://notes.localhost:${port + 1}/`)
  expect(welcome.body).toContain('You are not signed in to Notes')
  expect((await browser().open(`http://mail.localhost:${port + 2}/`)).status).toBe(200)
  expect((await browser().open(`http://localhost:${port}/`)).status).toBe(200)

  expect(await stopped(demo)).toBe(0)
  expect(await isFree(port)).toBe(true)
  expect(readFileSync(join(data, 'logs', 'op.log'), 'utf8')).toContain('"event":"listening"')
})

it('leaves the others running when one dies, and says how to start it again', async () => {
  const port = await threePorts()
  const data = scratchFolder()
  const demo = launch('--port', String(port), '--data', data)
  const [, pid] = await demo.says(/OpenID Provider .* pid (\d+)/)
  await demo.says(/Ctrl-C stops all three/)
  process.kill(Number(pid), 'SIGKILL')
  await demo.says(/OpenID Provider \(pid \d+\) ended by SIGKILL; the others go on/)
  const [command] = await demo.says(/npm run server -- --demo --data .* --port \d+/)
  expect(command).toContain(`--port ${port}`)
  expect((await browser().open(`http://notes.localhost:${port + 1}/`)).status).toBe(200)

  const login = await browser().open(`http://notes.localhost:${port + 1}/auth/login`)
  expect(login.status).toBe(503)
  expect(login.body).toContain(`http://localhost:${port}/`)
  expect(await stopped(demo)).toBe(0)
})

it('leaves with code 2 and the port in words when one of the three is taken', async () => {
  const port = await threePorts()
  const other = createServer().listen(port + 2, '127.0.0.1')
  await once(other, 'listening')
  onTestFinished(() => {
    other.close()
  })
  const { code, said } = await launch('--port', String(port), '--data', scratchFolder()).ended
  expect(code).toBe(2)
  expect(said).toContain(`Mail did not start: Port ${port + 2} on 127.0.0.1 is in use.`)
  expect(said).toContain("npm start -- --port PORT (the OP's; the apps take the next two)")
  expect(await isFree(port)).toBe(true)
})

it('refuses arguments it does not know', async () => {
  const { code, said } = await launch('--prot', '1').ended
  expect(code).toBe(2)
  expect(said).toMatch(/--prot/)
})

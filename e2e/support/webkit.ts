import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { globSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Browser, Tab, ThirdPartyCookies } from './browser.ts'
import { freePorts } from './demo.ts'
import { eventually } from './eventually.ts'

/** How long one command may take: without a window manager some of them hang for ever. */
const PATIENCE = 60_000

/**
 * Starts the distribution's WebKitGTK (MiniBrowser) behind its WebDriver, on a display of its own.
 *
 * Blocked is `--enable-itp`, the closest there is to Safari. What is opened here are windows: without a
 * window manager they all count as visible for ever and tabs as hidden, so what depends on hiding cannot be tested.
 */
export async function launchWebKit(thirdPartyCookies: ThirdPartyCookies): Promise<Browser> {
  const [binary] = globSync('/usr/{lib,libexec}/{*/,}webkit2gtk-4.*/MiniBrowser').toSorted()
  if (!binary) throw new Error('No WebKitGTK found. On Debian: apt-get install webkit2gtk-driver xvfb dbus')
  const home = mkdtempSync(join(tmpdir(), 'lockstep-webkit-'))
  const display = `:${await freeDisplay()}`
  const port = await freePorts(1)
  const programs = [start('Xvfb', [display, '-screen', '0', '1280x900x24', '-nolisten', 'tcp'], {})]
  programs.push(
    start('dbus-run-session', ['--', 'WebKitWebDriver', `--port=${port}`], {
      DISPLAY: display,
      HOME: home,
      XDG_RUNTIME_DIR: home,
      LIBGL_ALWAYS_SOFTWARE: '1',
      NO_AT_BRIDGE: '1',
    }),
  )
  const gone = programs.map((program) => once(program, 'exit'))
  const driver = `http://127.0.0.1:${port}`
  await eventually(async () => (await fetch(`${driver}/status`).catch(() => undefined))?.ok || undefined, 'WebKit')
  const { sessionId } = await command<{ sessionId: string }>('POST', '/session', {
    capabilities: {
      alwaysMatch: {
        acceptInsecureCerts: true,
        timeouts: { script: PATIENCE, pageLoad: PATIENCE },
        'webkitgtk:browserOptions': {
          binary,
          args: ['--automation', thirdPartyCookies === 'blocked' ? '--enable-itp' : '--cookies-policy=always'],
        },
      },
    },
  })
  const session = `/session/${sessionId}`
  const first = await command<string>('GET', `${session}/window`)
  let front = first
  let turn: Promise<unknown> = Promise.resolve()

  return {
    open: (url) =>
      inTurn(async () => {
        // The first window stays as it is: with the last one the whole browser would close.
        if (front === '') await switchTo(first)
        const { handle } = await command<{ handle: string }>('POST', `${session}/window/new`, { type: 'window' })
        await switchTo(handle)
        await command('POST', `${session}/url`, { url })
        return tabOf(handle)
      }),
    async close() {
      await command('DELETE', session).catch(() => undefined)
      for (const { pid, exitCode } of programs.toReversed()) {
        if (pid !== undefined && exitCode === null) process.kill(-pid, 'SIGTERM')
      }
      await Promise.all(gone)
      rmSync(home, { recursive: true, force: true, maxRetries: 5 })
    },
  }

  function tabOf(window: string): Tab {
    const here = <T>(run: () => Promise<T>) =>
      inTurn(async () => {
        await switchTo(window)
        return run()
      })
    return {
      go: (url) => here(() => command('POST', `${session}/url`, { url })),
      run: (expression) =>
        here(() =>
          command('POST', `${session}/execute/async`, {
            script: `const done = arguments[0]; Promise.resolve(${expression}).then(done, (error) => done(String(error)))`,
            args: [],
          }),
        ),
      front: () => here(async () => {}),
      close: () =>
        here(async () => {
          await command('DELETE', `${session}/window`)
          front = ''
        }),
    }
  }

  async function switchTo(window: string): Promise<void> {
    if (front !== window) await command('POST', `${session}/window`, { handle: window })
    front = window
  }

  /** The driver has one current window, so only one command at a time. */
  function inTurn<T>(run: () => Promise<T>): Promise<T> {
    const mine = turn.then(run)
    turn = mine.catch(() => undefined)
    return mine
  }

  async function command<T>(method: string, path: string, body?: object): Promise<T> {
    const answer = await fetch(driver + path, {
      method,
      ...(body && { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(PATIENCE * 2),
    })
    const { value } = (await answer.json()) as { value: T & { error?: string; message?: string } }
    if (!answer.ok) throw new Error(`WebKit: ${method} ${path}: ${value?.error} ${value?.message}`)
    return value
  }
}

function start(program: string, args: readonly string[], env: Record<string, string>): ChildProcess {
  return spawn(program, args, { detached: true, stdio: 'ignore', env: { ...process.env, ...env } })
}

async function freeDisplay(): Promise<number> {
  const taken = new Set(globSync('/tmp/.X*-lock').map((file) => Number(/\d+/.exec(file)?.[0])))
  for (let number = 90 + (process.pid % 400); ; number++) if (!taken.has(number)) return number
}

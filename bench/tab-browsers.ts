import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** A Chromium that shows one page. */
export interface BenchBrowser {
  /** Seconds of CPU that all of its processes have used. */
  cpu(): number
  close(): Promise<void>
}

const executable = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(existsSync)
/** Ticks of the kernel's clock in a second (`getconf CLK_TCK`), the same on every Linux there is. */
const TICKS = 100

/** Opens a page in a Chromium with a profile of its own, which says `name` for its User-Agent. */
export function openBrowser(name: string, url: string): BenchBrowser {
  if (!executable) throw new Error('No Chromium found. On Debian: apt-get install chromium')
  const profile = mkdtempSync(join(tmpdir(), 'lockstep-bench-chromium-'))
  mkdirSync(join(profile, 'Default'))
  writeFileSync(
    join(profile, 'Default', 'Preferences'),
    JSON.stringify({ profile: { block_third_party_cookies: false, cookie_controls_mode: 0 } }),
  )
  const child = spawn(
    executable,
    [
      '--headless=new',
      '--no-sandbox',
      '--disable-gpu',
      '--disable-dev-shm-usage',
      '--disable-popup-blocking',
      '--no-first-run',
      '--no-default-browser-check',
      '--password-store=basic',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-default-apps',
      '--disable-sync',
      '--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE localhost , EXCLUDE 127.0.0.1',
      `--user-agent=${name}`,
      `--user-data-dir=${profile}`,
      url,
    ],
    { stdio: 'ignore', detached: true },
  )
  const gone = once(child, 'exit')
  const { pid } = child
  if (pid === undefined) throw new Error('Chromium did not start')
  return {
    cpu: () => cpuOf(family(pid)) / TICKS,
    async close() {
      process.kill(-pid, 'SIGTERM')
      await gone
      rmSync(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 })
    },
  }
}

/** A process and all that descend from it. */
function family(root: number): ReadonlySet<number> {
  const parents = globSync('/proc/[0-9]*/stat').flatMap((file) => {
    const fields = statOf(file)
    return fields ? [[Number(file.split('/')[2]), Number(fields[1])] as const] : []
  })
  const members = new Set([root])
  for (let before = 0; before < members.size; ) {
    before = members.size
    for (const [pid, parent] of parents) if (members.has(parent)) members.add(pid)
  }
  return members
}

function cpuOf(pids: ReadonlySet<number>): number {
  return [...pids].reduce((sum, pid) => {
    const fields = statOf(`/proc/${pid}/stat`)
    return sum + (fields ? Number(fields[11]) + Number(fields[12]) : 0)
  }, 0)
}

/** The fields after the process's name, which may hold anything; `undefined` when it has ended meanwhile. */
function statOf(file: string): string[] | undefined {
  try {
    const text = readFileSync(file, 'utf8')
    return text.slice(text.lastIndexOf(')') + 2).split(' ')
  } catch {
    return undefined
  }
}

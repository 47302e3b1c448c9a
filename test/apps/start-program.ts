import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { onTestFinished } from 'vitest'

const programs = { server: 'apps/server/main.ts', app: 'apps/demo-rp/main.ts' }

/** A program that runs, or ran. */
export interface StartedProgram {
  readonly child: ChildProcess
  readonly closed: Promise<{ readonly code: number | null; readonly stdout: string; readonly stderr: string }>
  readonly listening: Promise<{ readonly url: string; readonly pid: number }>
  /** Resolves when it has said this on its standard output. */
  hasSaid(text: string): Promise<void>
}

/** Starts a program as an operator does; it is killed after the test. */
export function start(program: keyof typeof programs, ...args: string[]): StartedProgram {
  const child = spawn(process.execPath, ['-C', '@lockstep/source', programs[program], ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  onTestFinished(() => {
    child.kill('SIGKILL')
  })
  const said = { stdout: '', stderr: '' }
  child.stdout.on('data', (chunk) => {
    said.stdout += String(chunk)
  })
  child.stderr.on('data', (chunk) => {
    said.stderr += String(chunk)
  })
  const closed = once(child, 'close').then(([code]) => ({ code: code as number | null, ...said }))
  const listening = (async () => {
    for await (const line of createInterface({ input: child.stdout })) {
      if (line.includes('"event":"listening"')) return JSON.parse(line) as { url: string; pid: number }
    }
    throw new Error(`it did not start: ${said.stderr}`)
  })()
  listening.catch(() => {}) // judged by those who wait for it
  const hasSaid = async (text: string): Promise<void> => {
    while (!said.stdout.includes(text)) await once(child.stdout, 'data')
  }
  return { child, closed, listening, hasSaid }
}

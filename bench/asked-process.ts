import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'

/** A process that answers one order at a time. */
export interface Asked<Order> {
  /** What it said first, where it does. */
  readonly greeting: unknown
  ask(order: Order): Promise<unknown>
  stop(): Promise<void>
}

/** Starts a script of this folder in a process of its own; it ends when its channel does. */
export async function startAsked<Order extends object | string>(
  script: string,
  args: readonly string[],
): Promise<Asked<Order>> {
  const child = fork(join(import.meta.dirname, script), args, {
    execArgv: ['-C', '@lockstep/source', '--max-old-space-size=4096'],
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  })
  const greeting = await answerOf(child)
  return {
    greeting,
    async ask(order) {
      const answer = answerOf(child)
      child.send(order)
      return answer
    },
    async stop() {
      const gone = once(child, 'exit')
      child.disconnect()
      await gone
    },
  }
}

function answerOf(child: ChildProcess): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const gone = (code: number | null): void => reject(new Error(`a process of the bench ended with code ${code}`))
    child.once('exit', gone)
    child.once('message', (message: { answer?: unknown; error?: string }) => {
      child.off('exit', gone)
      if (message.error === undefined) resolve(message.answer)
      else reject(new Error(message.error))
    })
  })
}

import { setTimeout as wait } from 'node:timers/promises'

/** Asks again and again until there is an answer, for at most a minute: machines are busy. */
export async function eventually<T>(ask: () => T | undefined | Promise<T | undefined>, what: string): Promise<T> {
  for (const until = Date.now() + 60_000; Date.now() < until; await wait(20)) {
    const answer = await ask()
    if (answer !== undefined) return answer
  }
  throw new Error(`Waited in vain for ${what}`)
}

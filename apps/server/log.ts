/** Writes one line of JSON: what went well to standard output, what needs a look to standard error. */
export type Log = (level: 'info' | 'warn' | 'error', event: string, fields?: Readonly<Record<string, LogValue>>) => void

/** Plain values only: an object could carry a token or a secret along. */
export type LogValue = string | number | boolean | undefined

/** The log of this process. */
export const log: Log = (level, event, fields = {}) => {
  const line = JSON.stringify({ time: new Date().toISOString(), level, event, ...fields })
  const stream = level === 'info' ? process.stdout : process.stderr
  stream.write(`${line}\n`)
}

/** The first line of code an error comes from: enough to find it, and never a value. */
export function placeOf(error: Error): string | undefined {
  return /\((?:file:\/\/)?[^)]*?([^/)]+:\d+:\d+)\)/.exec(error.stack ?? '')?.[1]
}

/** Writes one line of JSON: what went well to standard output, what needs a look to standard error. */
export type Log = (level: 'info' | 'warn' | 'error', event: string, fields?: Readonly<Record<string, unknown>>) => void

/** The log of this process. */
export const log: Log = (level, event, fields = {}) => {
  const line = JSON.stringify({ time: new Date().toISOString(), level, event, ...fields })
  const stream = level === 'info' ? process.stdout : process.stderr
  stream.write(`${line}\n`)
}

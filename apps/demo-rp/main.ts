import { createServer } from 'node:http'
import { readArguments, USAGE, UsageError } from './arguments.ts'
import { buildDemoApp } from './demo-app.ts'
import { log } from './log.ts'

/** Milliseconds that open connections have left when the app stops. */
const GRACE = 500

/** A demo app as a program: exit code 2 with one line when it cannot start, 0 after SIGINT or SIGTERM. */
async function main(args: readonly string[]): Promise<void> {
  const options = readArguments(args)
  if (options === 'help') {
    console.log(USAGE)
    return
  }
  const app = buildDemoApp(options, log)
  const server = createServer(app.express)
  try {
    await new Promise<void>((resolve, reject) =>
      server.once('error', reject).listen(options.port, '127.0.0.1', resolve),
    )
  } catch (cause) {
    await app.close()
    if (!(cause instanceof Error && 'code' in cause && cause.code === 'EADDRINUSE')) throw cause
    throw new UsageError(
      `Port ${options.port} on 127.0.0.1 is in use. Stop what listens there, or choose another with --port.`,
    )
  }
  let stopping = false
  const stop = (): void => {
    if (stopping) return
    stopping = true
    server.close(async () => {
      await app.close()
      process.exit(0)
    })
    server.closeIdleConnections()
    setTimeout(() => server.closeAllConnections(), GRACE) // event streams of open tabs would go on for ever
  }
  process.on('SIGINT', stop)
  process.on('SIGTERM', stop)
  process.on('disconnect', stop) // the launcher is gone: its children must not keep the ports
  log('info', 'listening', { url: app.appUrl, pid: process.pid })
}

try {
  await main(process.argv.slice(2))
} catch (error) {
  if (!(error instanceof UsageError)) throw error
  process.stderr.write(`${error.message}\n`)
  process.exitCode = 2
}

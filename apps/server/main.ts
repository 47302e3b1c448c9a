import { LockstepError } from 'lockstep'
import { configFromArguments, rotationFromArguments, USAGE } from './arguments.ts'
import { ConfigError } from './config-error.ts'
import { log } from './log.ts'
import { openStore } from './open-store.ts'
import { rotateServerKeys } from './secrets.ts'
import { startServer } from './serve.ts'

/** The OP as a program: exit code 2 with one line when it cannot start as it is told, 0 after SIGINT or SIGTERM. */
async function main(args: readonly string[]): Promise<void> {
  const config = configFromArguments(args)
  if (config === 'help') {
    console.log(USAGE)
    return
  }
  const rotation = rotationFromArguments(args)
  if (rotation) {
    const store = openStore(config)
    try {
      const kids = await rotateServerKeys(store, config, rotation)
      console.log(`These keys sign now; each OP that runs takes them up within 10 seconds: ${kids.join(', ')}`)
    } finally {
      await store.close()
    }
    return
  }
  const server = await startServer(config, log)
  let stopping = false
  const stop = async (): Promise<void> => {
    if (stopping) return
    stopping = true
    log('info', 'stopping')
    await server.close()
    process.exit(0)
  }
  process.on('SIGHUP', () => {
    server.takeUpKeys().then(
      () => log('info', 'keys_looked_at'),
      (error: Error) => log('error', 'keys_not_taken_up', { message: error.message }),
    )
  })
  process.on('SIGINT', stop)
  process.on('SIGTERM', stop)
  process.on('disconnect', stop) // the launcher is gone: its children must not keep the ports
  log('info', 'listening', { url: config.issuer, host: config.listen.host, port: config.listen.port, pid: process.pid })
}

try {
  await main(process.argv.slice(2))
} catch (error) {
  if (!(error instanceof ConfigError || (error instanceof LockstepError && error.code.startsWith('store_'))))
    throw error
  process.stderr.write(`${error.message}\n`)
  process.exitCode = 2
}

import { registerHooks } from 'node:module'

// An application that has not installed OpenTelemetry: its name leads nowhere.
registerHooks({
  resolve(specifier, context, next) {
    if (!specifier.startsWith('@opentelemetry/')) return next(specifier, context)
    const message = `Cannot find package '${specifier}'`
    throw Object.assign(new Error(message), { code: 'ERR_MODULE_NOT_FOUND' })
  },
})
const { openSecrets, Provider } = await import('../../src/op.ts')
const { sqliteStore } = await import('../../src/op-sqlite.ts')

const issuer = 'http://localhost:4000'
const store = sqliteStore(':memory:')
const { jwks, cookieKeys } = await openSecrets(store, issuer)
const log: string[] = []
const configuration = { clients: [], jwks: { keys: [...jwks.keys] }, cookies: { keys: [...cookieKeys] } }
const op = new Provider(issuer, configuration, { store, log: ({ event }) => log.push(event) })
await op.ready()
const job = await op.opSessions.endAll('everyone')
const { deliveries } = await op.deliveries.list()
await op.close()
await store.close()
process.stdout.write(JSON.stringify({ state: job.state, deliveries, log }))

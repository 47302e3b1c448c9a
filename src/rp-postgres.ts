export { type PostgresStoreOptions, postgresStore } from './rp/store/postgres.ts'
export type { PostgresOptions } from './runtime/postgres-connection.ts'

export { type PostgresStoreOptions, postgresStore } from './op/store/postgres.ts'

export { sqliteStore } from './rp/store/sqlite.ts'

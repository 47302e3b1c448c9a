export { sqliteStore } from './op/store/sqlite.ts'

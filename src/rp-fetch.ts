export { auth, getRpSession, requireLogin } from './rp/adapters/fetch.ts'

export { auth, getRpSession, requireLogin } from './rp/adapters/node.ts'

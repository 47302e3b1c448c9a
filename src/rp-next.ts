export { getRpSession, handlers, mayBeSignedIn } from './rp/adapters/next.ts'

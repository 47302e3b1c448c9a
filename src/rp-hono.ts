export { auth, type MaybeSignedIn, requireLogin, type SignedIn } from './rp/adapters/hono.ts'

export { auth, type LoginGuard, requireLogin, type SignedIn } from './rp/adapters/express.ts'

export { auth, requireLogin, rpSessionOf } from './rp/adapters/fastify.ts'

export { type RedisStoreOptions, redisStore } from './rp/store/redis.ts'
export type { RedisPlace } from './rp/store/redis-connection.ts'

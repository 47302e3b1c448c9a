import type { Runtime } from '../../runtime/runtime.ts'
import type { OwedKind, RpSessionStore } from './contract.ts'
import { listOf, type RunScript, type Script, script } from './redis-script.ts'

/** What is owed, in Redis: a queue for each kind. What ends RP sessions adds to them. */
export function createRedisOwed(
  run: RunScript,
  runtime: Pick<Runtime, 'now'>,
): Pick<RpSessionStore, 'owe' | 'claimOwed' | 'settleOwed' | 'nextOwedAt'> {
  // It is kept by the server's clock and spoken of by this node's, however far apart they are.
  return {
    async owe(refreshToken) {
      await run(owe, refreshToken)
    },

    async claimOwed({ limit, lease, kind = 'revocation' }) {
      const rows = listOf(await run(claim, queues[kind], String(limit), String(lease)))
      const here = runtime.now()
      return rows.map((row) => {
        const [id, debt, attempts, age] = listOf(row)
        return { id: String(id), debt: String(debt), attempts: Number(attempts), owedSince: here - Number(age) }
      })
    },

    async settleOwed(id, outcome, kind = 'revocation') {
      const wait = outcome === 'done' ? [] : [String(Math.ceil(outcome.retryAt - runtime.now()))]
      await run(settle, queues[kind], id, ...wait)
    },

    async nextOwedAt(kind = 'revocation') {
      const wait = await run(next, queues[kind])
      return wait === '' ? undefined : runtime.now() + Number(wait)
    },
  }
}

/** Where each kind of debt waits. */
const queues: Readonly<Record<OwedKind, string>> = { revocation: ':owed', downstream: ':down' }

/** refresh token */
const owe: Script = script(`
owe(ARGV[2])
return 1
`)

/** queue, limit, lease */
const claim: Script = script(`
local queue, limit, lease = base .. ARGV[2], ARGV[3], tonumber(ARGV[4])
local taken = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', queue, '-inf', whole(now), 'LIMIT', 0, limit)) do
  local key = queue .. ':' .. id
  local owed = redis.call('HMGET', key, 'token', 'since')
  if owed[1] then
    local attempts = redis.call('HINCRBY', key, 'attempts', 1)
    redis.call('ZADD', queue, whole(now + lease), id)
    taken[#taken + 1] = { id, owed[1], attempts, whole(now - tonumber(owed[2])) }
  else
    redis.call('ZREM', queue, id)
  end
end
return taken
`)

/** queue, id, milliseconds until the next attempt unless it is done */
const settle: Script = script(`
local queue, id, wait = base .. ARGV[2], ARGV[3], tonumber(ARGV[4])
if wait then
  redis.call('ZADD', queue, 'XX', whole(now + wait), id)
else
  redis.call('ZREM', queue, id)
  redis.call('DEL', queue .. ':' .. id)
end
return 1
`)

/** queue: milliseconds until the next attempt, or empty */
const next: Script = script(`
local first = redis.call('ZRANGE', base .. ARGV[2], 0, 0, 'WITHSCORES')
if #first == 0 then return '' end
return whole(tonumber(first[2]) - now)
`)

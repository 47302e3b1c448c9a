import { createHash } from 'node:crypto'

/** A Lua script; Redis runs it as one step and knows it by its SHA-1. */
export interface Script {
  readonly lua: string
  /** Absent where the text is always sent: for what is rarely done, and must not need a second try. */
  readonly sha?: string
}

/** Runs a script for one client. */
export type RunScript = (script: Script, ...args: readonly string[]) => Promise<unknown>

/*
 * KEYS[1] names the client, and every key of its RP sessions starts with it:
 *
 *   :rp:<handle>         hash   an RP session, with `refreshing` until when somebody may refresh and `sid:<sid>` for each
 *                               sid besides that of its login: "requested grant learnt", in epoch milliseconds, as a flag and
 *                               as a number that grows with each that is learnt. One that the front channel ended says how in
 *                               `framed`, and counts as idle. What leaves a refresh token outlives its expiry, until a login or a
 *                               logout sweeps it. Or how it `ended` (null where a login of the same End-User replaced it),
 *                               with `all` if offline tokens were to go too
 *   :sid:<sid> :sub:<sub>  zset   handles by absolute expiry
 *   :exp                 zset   handles of what leaves a refresh token without offline_access, by absolute expiry
 *   :out:sid:<sid> :out:sub:<sub>   "arrived expires watermark", a logout
 *   :outs                zset   the logouts by arrival, each as the hash that tells of it
 *   :jti:<jti>           "expires attempt"
 *   :owed :owed:<id> :owing   refresh tokens to revoke: ids by due time, one hash each, the last id
 *   :down :down:<id> :owing   what is owed downstream, alike
 *   :unsaid:<kind>:<name>   list   RP sessions that ended in an attempt that was answered as failed
 *
 * A script reads everything before it writes anything (but for what it sweeps), and claims the jti last: should it break off,
 * the next attempt does the rest. ARGV[1] is the time in epoch milliseconds, or empty for the server's own. Times to live are distances, so that
 * they hold whatever a test's clock says; what is past its time but still there is judged by its own numbers.
 */
export const prelude = `
local base = KEYS[1]

local function clock()
  if ARGV[1] ~= '' then return tonumber(ARGV[1]) end
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end
local now = clock()

local function whole(number) return string.format('%.0f', number) end

local function keep(key, milliseconds)
  if redis.call('PTTL', key) < milliseconds then redis.call('PEXPIRE', key, whole(math.ceil(milliseconds))) end
end

local function key_of(handle) return base .. ':rp:' .. handle end

local function table_of(flat, first)
  local fields = {}
  for i = first, #flat, 2 do fields[flat[i]] = flat[i + 1] end
  return fields
end

-- An RP session, and as it is answered: \`flat\`.
local function read(handle)
  local flat = redis.call('HGETALL', key_of(handle))
  if #flat == 0 then return nil end
  flat[#flat + 1] = 'handle'
  flat[#flat + 1] = handle
  local session = table_of(flat, 1)
  session.flat = flat
  return session
end

local function flat_of(sessions)
  local answers = {}
  for i, session in ipairs(sessions) do answers[i] = session.flat end
  return answers
end

local function is_live(session)
  return session ~= nil and session.ended == nil
    and tonumber(session.idle) * 1000 > now and tonumber(session.exp) * 1000 > now
end

-- The sids besides that of the login.
local function further_sids(session)
  local sids = {}
  for field, value in pairs(session) do
    local sid = string.match(field, '^sid:(.*)$')
    if sid then
      local requested, grant, learnt = string.match(value, '^(%S+) (%S+) (%S+)$')
      sids[sid] = { sid = sid, requested = tonumber(requested), grant = grant == '1', learnt = tonumber(learnt) }
    end
  end
  return sids
end

-- Whether the browser has shown another sid since this one was logged out (epoch seconds); with the login it has shown that
-- of the login.
local function is_left_behind(session, sid, watermark)
  local shown = {}
  for each, known in pairs(further_sids(session)) do shown[each] = known.requested end
  if session.sid then shown[session.sid] = math.max(shown[session.sid] or 0, tonumber(session.requested or 0)) end
  local own, latest = shown[sid] or 0, (math.floor(watermark) + 1) * 1000
  for other, requested in pairs(shown) do
    if other ~= sid and requested > own and requested >= latest then return true end
  end
  return false
end

local function carries(session, kind, name)
  return session[kind] == name or (kind == 'sid' and session['sid:' .. name] ~= nil)
end

local function owe(debt, queue)
  local owed = base .. (queue or ':owed')
  local id = whole(redis.call('INCR', base .. ':owing'))
  redis.call('HSET', owed .. ':' .. id, 'token', debt, 'since', whole(now))
  redis.call('ZADD', owed, whole(now), id)
end

-- A logout's mark: when it came, until when it counts, when it was. The last is missing in those of older versions.
local function mark_of(kind, name)
  local mark = redis.call('GET', base .. ':out:' .. kind .. ':' .. name)
  if not mark then return nil end
  local arrived, expires, watermark = string.match(mark, '^(%S+) (%S+) ?(%S*)$')
  if tonumber(expires) * 1000 <= now then return nil end
  return { arrived = tonumber(arrived), expires = tonumber(expires), watermark = tonumber(watermark) or arrived / 1000 }
end

local function remove(session)
  if session.sid then redis.call('ZREM', base .. ':sid:' .. session.sid, session.handle) end
  for sid in pairs(further_sids(session)) do redis.call('ZREM', base .. ':sid:' .. sid, session.handle) end
  redis.call('ZREM', base .. ':exp', session.handle)
  redis.call('ZREM', base .. ':sub:' .. session.sub, session.handle)
  redis.call('DEL', key_of(session.handle))
end

-- What it leaves is owed first: a script that breaks off keeps what it wrote, and what has ended cannot be owed again.
local function finish(session, ended, revoke_offline)
  if session.refresh and (revoke_offline or session.offline == '0') then owe(session.refresh) end
  remove(session)
  local key, all = key_of(session.handle), revoke_offline and '1' or '0'
  redis.call('HSET', key, 'pub', session.pub, 'exp', session.exp, 'ended', ended, 'all', all)
  redis.call('PEXPIRE', key, whole(math.ceil(tonumber(session.exp) * 1000 - now)))
end

-- The live RP sessions that carry a sid or a sub, those that have expired, and what else the index has.
local function named_by(kind, name)
  local live, expired, dangling = {}, {}, {}
  for _, handle in ipairs(redis.call('ZRANGE', base .. ':' .. kind .. ':' .. name, 0, -1)) do
    local session = read(handle)
    if session == nil or session.ended or not carries(session, kind, name) then
      dangling[#dangling + 1] = handle
    elseif is_live(session) then
      live[#live + 1] = session
    else
      expired[#expired + 1] = session
    end
  end
  return live, expired, dangling
end

local function index(key, handle, expires)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', tostring(now / 1000))
  redis.call('ZADD', key, expires, handle)
  keep(key, tonumber(expires) * 1000 - now)
end

-- Keeps what leaves a refresh token for a month after its expiry, for a login or a logout to owe it.
local function keep_token(handle, expires)
  local left = tonumber(expires) * 1000 - now + 2592000000
  redis.call('ZADD', base .. ':exp', expires, handle)
  keep(base .. ':exp', left)
  redis.call('PEXPIRE', key_of(handle), whole(math.ceil(left)))
end

-- Owes what a few of those leave that have expired; a minute later, so that a refresh that is under way still finds them.
local function sweep()
  local until_then = tostring(now / 1000 - 60)
  for _, handle in ipairs(redis.call('ZRANGEBYSCORE', base .. ':exp', '-inf', until_then, 'LIMIT', 0, 4)) do
    local past = read(handle)
    if past and past.refresh and past.offline == '0' then owe(past.refresh) end
    redis.call('ZREM', base .. ':exp', handle)
    redis.call('DEL', key_of(handle))
  end
end

local function drop(kind, name, handles)
  for _, handle in ipairs(handles) do redis.call('ZREM', base .. ':' .. kind .. ':' .. name, handle) end
end

-- What hints are about: hashes, so that whoever hears one reads the store (T18).
local scope = string.match(base, '{([^{}]*)}$')
local function hint_of(handle) return redis.sha1hex(scope .. ' ' .. handle) end
local function mark_key(kind, name) return '!' .. scope .. '.' .. redis.sha1hex(kind .. ' ' .. name) end

local function tell(channel, node, hints)
  redis.call('PUBLISH', channel, node .. ' ' .. table.concat(hints, ' '))
end
`

export function script(body: string): Script {
  const lua = `${prelude}${body}`
  return { lua, sha: createHash('sha1').update(lua).digest('hex') }
}

export function listOf(reply: unknown): readonly unknown[] {
  return Array.isArray(reply) ? reply : []
}

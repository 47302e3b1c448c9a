import { createHash } from 'node:crypto'

/** A Lua script; Redis runs it as one step and knows it by its SHA-1. */
export interface Script {
  readonly lua: string
  /** Absent where the text is always sent: for what is rarely done, and must not need a second try. */
  readonly sha?: string
}

/*
 * KEYS[1] names the client, and every key of its RP sessions starts with it:
 *
 *   :rp:<handle>         hash   an RP session, with `refreshing` until when somebody may refresh and `sid:<sid>` for each
 *                               sid besides that of its login: "asked grant learnt", in epoch milliseconds, as a flag and as
 *                               a number that grows with each that is learnt; or how it `ended` (null where a login of another
 *                               grant replaced it), with `all` if offline tokens were to go too, and the refresh token that the
 *                               front channel left. What leaves a refresh token outlives its expiry, until a login or a logout sweeps it.
 *   :sid:<sid> :sub:<sub>  zset   handles by absolute expiry
 *   :exp                 zset   handles of what leaves a refresh token, by absolute expiry
 *   :left:sid:<sid> :left:sub:<sub>  zset   the same of what the front channel left
 *   :out:sid:<sid> :out:sub:<sub>   "arrived expires watermark", a logout
 *   :outs                zset   the logouts by arrival, each as the hash that tells of it
 *   :jti:<jti>           "expires attempt"
 *   :owed :owed:<id> :owing   refresh tokens to revoke: ids by due time, one hash each, the last id
 *   :down :down:<id> :owing   what is owed downstream, alike
 *   :unsaid:<kind>:<name>   list   RP sessions that ended in an attempt that was answered as failed
 *
 * A script reads everything before it writes anything, and claims the jti last: should it break off, the next attempt does
 * the rest. ARGV[1] is the time in epoch milliseconds, or empty for the server's own. Times to live are distances, so that
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

local function read(handle)
  local flat = redis.call('HGETALL', key_of(handle))
  if #flat == 0 then return nil end
  flat[#flat + 1] = 'handle'
  flat[#flat + 1] = handle
  return table_of(flat, 1), flat
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
      local asked, grant, learnt = string.match(value, '^(%S+) (%S+) (%S+)$')
      sids[sid] = { sid = sid, asked = tonumber(asked), grant = grant == '1', learnt = tonumber(learnt) }
    end
  end
  return sids
end

-- Whether the tokens are of the OP session that a sid names: to revoke others of it would take them away.
local function is_of_grant(session, sid)
  if session.sid == sid then return true end
  local known = sid and further_sids(session)[sid]
  return known ~= nil and known.grant
end

-- Whether the browser has shown another sid since this one was logged out (epoch seconds).
local function is_left_behind(session, sid, watermark)
  local sids = further_sids(session)
  local own = sids[sid] and sids[sid].asked or 0
  for other, known in pairs(sids) do
    if other ~= sid and known.asked > own and known.asked >= (math.floor(watermark) + 1) * 1000 then return true end
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

local function mark_key(scope, kind, name)
  return '!' .. scope .. '.' .. redis.sha1hex(kind .. ' ' .. name)
end

local function remove(session)
  if session.sid then redis.call('ZREM', base .. ':sid:' .. session.sid, session.handle) end
  for sid in pairs(further_sids(session)) do redis.call('ZREM', base .. ':sid:' .. sid, session.handle) end
  redis.call('ZREM', base .. ':exp', session.handle)
  redis.call('ZREM', base .. ':sub:' .. session.sub, session.handle)
  redis.call('DEL', key_of(session.handle))
end

local function bury(session, ended, all)
  remove(session)
  local key = key_of(session.handle)
  redis.call('HSET', key, 'pub', session.pub, 'exp', session.exp, 'ended', ended)
  if all then redis.call('HSET', key, 'all', '1') end
  redis.call('PEXPIRE', key, whole(math.ceil(tonumber(session.exp) * 1000 - now)))
end

local function finish(session, ended, revoke_offline)
  -- Owed first: a script that breaks off keeps what it wrote, and what is buried cannot be owed again.
  if session.refresh and (revoke_offline or session.offline == '0') then owe(session.refresh) end
  bury(session, ended, revoke_offline)
end

-- How an RP session ended; empty where a login of another grant has replaced it.
local function end_of(session)
  local how = cjson.decode(session.ended)
  return how == cjson.null and {} or how
end

local function was_framed(session)
  return session ~= nil and session.ended ~= nil and session.refresh ~= nil
    and end_of(session).cause == 'frontchannel'
end

-- The live RP sessions that carry a sid or a sub, what else the index has, and those that have expired.
local function named_by(kind, name)
  local live, dangling, expired = {}, {}, {}
  for _, handle in ipairs(redis.call('ZRANGE', base .. ':' .. kind .. ':' .. name, 0, -1)) do
    local session, flat = read(handle)
    if session == nil or session.ended or not carries(session, kind, name) then
      dangling[#dangling + 1] = handle
    elseif is_live(session) then
      live[#live + 1] = { session = session, flat = flat }
    else
      expired[#expired + 1] = session
    end
  end
  return live, dangling, expired
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

-- Owes what a few of those leave that have expired, unless a live RP session shares the grant at the OP.
local function sweep()
  for _, handle in ipairs(redis.call('ZRANGEBYSCORE', base .. ':exp', '-inf', tostring(now / 1000), 'LIMIT', 0, 4)) do
    local past = read(handle)
    local own, is_shared = past and { past.sid } or {}, false
    for sid, known in pairs(past and further_sids(past) or {}) do
      if known.grant then own[#own + 1] = sid end
    end
    for _, sid in ipairs(own) do
      for _, other in ipairs((named_by('sid', sid))) do
        is_shared = is_shared or is_of_grant(other.session, sid)
      end
    end
    if past and past.refresh and past.offline == '0' and not is_shared then owe(past.refresh) end
    redis.call('ZREM', base .. ':exp', handle)
    redis.call('DEL', key_of(handle))
  end
end

local function drop(kind, name, handles)
  for _, handle in ipairs(handles) do redis.call('ZREM', base .. ':' .. kind .. ':' .. name, handle) end
end

-- The payload is a hash: who hears it reads the store (T18).
local function tell(channel, node, scope, handle)
  redis.call('PUBLISH', channel, node .. ' ' .. redis.sha1hex(scope .. ' ' .. handle))
end
`

export function script(body: string): Script {
  const lua = `${prelude}${body}`
  return { lua, sha: createHash('sha1').update(lua).digest('hex') }
}

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
 *   :rp:<handle>         hash   an RP session, or (with `ended`) how it ended
 *   :sid:<sid> :sub:<sub>  zset   handles by absolute expiry
 *   :out:sid:<sid> :out:sub:<sub>   "arrived expires", a logout's watermark
 *   :jti:<jti>           "expires attempt"
 *   :owed :owed:<id> :owing   what is owed: ids by due time, one hash each, the last id
 *   :unsaid:<kind>:<name>   list   RP sessions that ended in an attempt that was answered as failed
 *
 * A script reads everything before it writes anything, and claims the jti last: should it break off, the next attempt does
 * the rest. ARGV[1] is the time in epoch milliseconds, or empty for the server's own. Times to live are distances, so that
 * they hold whatever a test's clock says; what is past its time but still there is judged by its own numbers.
 */
const prelude = `
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

local function owe(token)
  local id = whole(redis.call('INCR', base .. ':owing'))
  redis.call('HSET', base .. ':owed:' .. id, 'token', token, 'since', whole(now))
  redis.call('ZADD', base .. ':owed', whole(now), id)
end

local function remove(session)
  if session.sid then redis.call('ZREM', base .. ':sid:' .. session.sid, session.handle) end
  redis.call('ZREM', base .. ':sub:' .. session.sub, session.handle)
  redis.call('DEL', key_of(session.handle))
end

local function finish(session, ended, revoke_offline)
  remove(session)
  local key = key_of(session.handle)
  redis.call('HSET', key, 'pub', session.pub, 'exp', session.exp, 'ended', ended)
  redis.call('PEXPIRE', key, whole(math.ceil(tonumber(session.exp) * 1000 - now)))
  if session.refresh and (revoke_offline or session.offline == '0') then owe(session.refresh) end
end

-- The payload is a hash: who hears it reads the store (T18).
local function tell(channel, node, scope, handle)
  redis.call('PUBLISH', channel, node .. ' ' .. redis.sha1hex(scope .. ' ' .. handle))
end
`

function script(body: string): Script {
  const lua = `${prelude}${body}`
  return { lua, sha: createHash('sha1').update(lua).digest('hex') }
}

export const time: Script = script('return whole(now)')

/** channel, node, scope, requestedAt, the end of a switched user, whether one is replaced, its handle, handle, fields */
export const create: Script = script(`
local channel, node, scope, requested, switched = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6]
local replaces, old, handle = ARGV[7] == '1', ARGV[8], ARGV[9]
local session = table_of(ARGV, 10)

local function overtaken(key)
  local mark = redis.call('GET', key)
  if not mark then return false end
  local arrived, expires = string.match(mark, '^(%S+) (%S+)$')
  return tonumber(arrived) > requested and tonumber(expires) * 1000 > now
end
if overtaken(base .. ':out:sub:' .. session.sub) then return { 'outdated' } end
if session.sid and overtaken(base .. ':out:sid:' .. session.sid) then return { 'outdated' } end

local before, flat
if replaces then before, flat = read(old) end
if not is_live(before) then before = nil end
if before and before.sub ~= session.sub then
  finish(before, switched, false)
elseif before then
  remove(before)
  if before.sid ~= session.sid and before.refresh and before.offline == '0' then owe(before.refresh) end
end

local left = tonumber(session.exp) * 1000 - now
local function index(key)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', tostring(now / 1000))
  redis.call('ZADD', key, session.exp, handle)
  keep(key, left)
end
index(base .. ':sub:' .. session.sub)
if session.sid then index(base .. ':sid:' .. session.sid) end
redis.call('DEL', key_of(handle))
redis.call('HSET', key_of(handle), unpack(ARGV, 10))
redis.call('PEXPIRE', key_of(handle), whole(math.ceil(left)))
if not before then return { 'created' } end
tell(channel, node, scope, old)
return { 'created', flat }
`)

/** handle */
export const get: Script = script(`
local session, flat = read(ARGV[2])
return { whole(now), flat or {} }
`)

/** channel, node, scope, handle, idle expiry, whether there is a session_state, session_state */
export const update: Script = script(`
local channel, node, scope, handle, idle = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local session = read(handle)
if not is_live(session) then return 0 end
if tonumber(idle) > tonumber(session.idle) then redis.call('HSET', key_of(handle), 'idle', idle) end
if ARGV[7] == '1' then
  redis.call('HSET', key_of(handle), 'state', ARGV[8])
  tell(channel, node, scope, handle)
end
return 1
`)

/** channel, node, scope, handle, end */
export const remove: Script = script(`
local session, flat = read(ARGV[5])
if not is_live(session) then return {} end
finish(session, ARGV[6], false)
tell(ARGV[2], ARGV[3], ARGV[4], ARGV[5])
return flat
`)

/**
 * channel, node, scope, kind, name, whether a sub is compared, sub, jti, its expiry, attempt, watermark, its expiry, end,
 * whether offline tokens go too
 */
export const endBy: Script = script(`
local channel, node, scope, kind, name = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local compares, sub, jti, jti_expires, attempt = ARGV[7] == '1', ARGV[8], ARGV[9], ARGV[10], ARGV[11]
local watermark, mark_expires, ended, revoke_offline = tonumber(ARGV[12]), tonumber(ARGV[13]), ARGV[14], ARGV[15] == '1'

local jti_key = base .. ':jti:' .. jti
local claim = redis.call('GET', jti_key)
if claim then
  local expires, by = string.match(claim, '^(%S+) (%S+)$')
  if tonumber(expires) * 1000 > now and by ~= attempt then return { 'replay' } end
end

local index = base .. ':' .. kind .. ':' .. name
local mark = math.min(watermark, now / 1000)
local members, answers, dangling, named = {}, {}, {}, 0
for _, handle in ipairs(redis.call('ZRANGE', index, 0, -1)) do
  local session, flat = read(handle)
  if session == nil or session.ended or session[kind] ~= name then
    dangling[#dangling + 1] = handle
  elseif is_live(session) then
    named = named + 1
    local is_member
    if kind == 'sid' then is_member = not compares or session.sub == sub
    else is_member = tonumber(session.iat) <= mark end
    if is_member then
      members[#members + 1] = session
      answers[#answers + 1] = flat
    end
  end
end
if kind == 'sid' and named > 0 and #members == 0 then return { 'sub_mismatch' } end

local out = base .. ':out:' .. kind .. ':' .. name
local arrived = now
local known = redis.call('GET', out)
if known then
  local at, expires = string.match(known, '^(%S+) (%S+)$')
  arrived = math.max(arrived, tonumber(at))
  mark_expires = math.max(mark_expires, tonumber(expires))
end
local unsaid_key = base .. ':unsaid:' .. kind .. ':' .. name
local unsaid = redis.call('LRANGE', unsaid_key, 0, -1)

local mark_left = mark_expires * 1000 - now
if mark_left > 0 then
  redis.call('SET', out, whole(arrived) .. ' ' .. tostring(mark_expires), 'PX', whole(math.ceil(mark_left)))
end
for _, handle in ipairs(dangling) do redis.call('ZREM', index, handle) end
for _, session in ipairs(members) do
  finish(session, ended, revoke_offline)
  tell(channel, node, scope, session.handle)
end
if #unsaid > 0 then redis.call('DEL', unsaid_key) end
local jti_left = tonumber(jti_expires) * 1000 - now
if jti_left > 0 then
  redis.call('SET', jti_key, jti_expires .. ' ' .. attempt, 'PX', whole(math.ceil(jti_left)))
end
return { 'ended', unsaid, answers }
`)

/** Takes the claim of an attempt back, and keeps what it ended for the next: kind, name, jti, attempt, ms, sessions. */
export const takeBack: Script = {
  lua: `${prelude}
local jti_key = base .. ':jti:' .. ARGV[4]
local claim = redis.call('GET', jti_key)
local unsaid_key = base .. ':unsaid:' .. ARGV[2] .. ':' .. ARGV[3]
for i = 7, #ARGV do redis.call('RPUSH', unsaid_key, ARGV[i]) end
if #ARGV > 6 then redis.call('PEXPIRE', unsaid_key, ARGV[6]) end
if claim and string.match(claim, '(%S+)$') == ARGV[5] then redis.call('DEL', jti_key) end
return 1
`,
}

/** sub */
export const listBySub: Script = script(`
local found = {}
for _, handle in ipairs(redis.call('ZRANGE', base .. ':sub:' .. ARGV[2], 0, -1)) do
  local session, flat = read(handle)
  if is_live(session) and session.sub == ARGV[2] then found[#found + 1] = flat end
end
return found
`)

/** limit, lease */
export const claimOwed: Script = script(`
local taken = {}
local ids = redis.call('ZRANGEBYSCORE', base .. ':owed', '-inf', whole(now), 'LIMIT', 0, ARGV[2])
for _, id in ipairs(ids) do
  local key = base .. ':owed:' .. id
  local owed = redis.call('HMGET', key, 'token', 'since')
  if owed[1] then
    local attempts = redis.call('HINCRBY', key, 'attempts', 1)
    redis.call('ZADD', base .. ':owed', whole(now + tonumber(ARGV[3])), id)
    taken[#taken + 1] = { id, owed[1], attempts, whole(now - tonumber(owed[2])) }
  else
    redis.call('ZREM', base .. ':owed', id)
  end
end
return taken
`)

/** id, milliseconds until the next attempt, or empty when it is done */
export const settleOwed: Script = script(`
local id, wait = ARGV[2], ARGV[3]
if wait == '' then
  redis.call('ZREM', base .. ':owed', id)
  redis.call('DEL', base .. ':owed:' .. id)
else
  redis.call('ZADD', base .. ':owed', 'XX', whole(now + tonumber(wait)), id)
end
return 1
`)

export const nextOwed: Script = script(`
local first = redis.call('ZRANGE', base .. ':owed', 0, 0, 'WITHSCORES')
if #first == 0 then return '' end
return whole(tonumber(first[2]) - now)
`)

import { prelude, type Script, script } from './redis-script.ts'

export const time: Script = script('return whole(now)')

/** channel, node, scope, requestedAt, the end of a switched user, whether one is replaced, its handle, handle, fields */
export const create: Script = script(`
local channel, node, scope, requested, switched = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6]
local replaces, old, handle = ARGV[7] == '1', ARGV[8], ARGV[9]
local session = table_of(ARGV, 10)

local function overtaken(kind, name)
  local mark = mark_of(kind, name)
  return mark ~= nil and mark.arrived > requested
end
if overtaken('sub', session.sub) then return { 'outdated' } end
if session.sid and overtaken('sid', session.sid) then return { 'outdated' } end

local before, flat
if replaces then before, flat = read(old) end
if before and before.ended then
  local past = end_of(before)
  local is_leaving = past.cause == 'this_app' or past.cause == 'rp_initiated'
  if is_leaving and (past.at_ms or past.at * 1000) > requested then return { 'outdated' } end
end
if not is_live(before) then before = nil end
if before and before.sub ~= session.sub then
  finish(before, switched, false)
elseif before and not is_of_grant(before, session.sid) and before.refresh and before.offline == '0' then
  owe(before.refresh)
  bury(before, 'null')
elseif before then
  remove(before)
end

index(base .. ':sub:' .. session.sub, handle, session.exp)
if session.sid then index(base .. ':sid:' .. session.sid, handle, session.exp) end
redis.call('DEL', key_of(handle))
redis.call('HSET', key_of(handle), unpack(ARGV, 10))
redis.call('PEXPIRE', key_of(handle), whole(math.ceil(tonumber(session.exp) * 1000 - now)))
if session.refresh and session.offline == '0' then keep_token(handle, session.exp) end

sweep() -- last: what has expired may share its grant with the new RP session

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

/** handle, sid, requestedAt, whether it is of the grant, whether a sid is reused */
export const addSid: Script = script(`
local handle, sid, requested, of_grant, reused = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5] == '1', ARGV[6] == '1'
local session = read(handle)
if not is_live(session) then return 'gone' end
local mark = mark_of('sid', sid)
if mark and mark.arrived > requested and not (reused and tonumber(session.iat) > mark.watermark)
  and not is_left_behind(session, sid, mark.watermark) then return 'outdated' end
local sids = further_sids(session)
-- That of the login is kept among them once the browser has had others.
if session.sid == sid and (of_grant or next(sids) == nil) then return 'added' end
local added = sids[sid] or { asked = 0, grant = false }
if of_grant then added.grant = true else added.asked = math.max(added.asked, requested) end
sids[sid] = nil
local others, last, shown_last = {}, 0, added.asked
for _, each in pairs(sids) do
  others[#others + 1] = each
  last, shown_last = math.max(last, each.learnt), math.max(shown_last, each.asked)
end
-- Where they are too many, the one that was learnt longest ago goes, but not the one that the browser has shown last.
local function is_shown_last(each) return each.asked > 0 and each.asked == shown_last end
table.sort(others, function(a, b)
  if is_shown_last(a) ~= is_shown_last(b) then return is_shown_last(a) end
  return a.learnt > b.learnt
end)
index(base .. ':sid:' .. sid, handle, session.exp)
redis.call('HSET', key_of(handle), 'sid:' .. sid,
  whole(added.asked) .. ' ' .. (added.grant and '1' or '0') .. ' ' .. whole(last + 1))
for i = 8, #others do
  redis.call('HDEL', key_of(handle), 'sid:' .. others[i].sid)
  if others[i].sid ~= session.sid then redis.call('ZREM', base .. ':sid:' .. others[i].sid, handle) end
end
return 'added'
`)

/** handle, lease */
export const claimRefresh: Script = script(`
local session = read(ARGV[2])
if not is_live(session) or tonumber(session.refreshing or 0) > now then return 0 end
redis.call('HSET', key_of(ARGV[2]), 'refreshing', whole(now + tonumber(ARGV[3])))
return 1
`)

/** channel, node, scope, handle, tokens, whether there is a refresh token, it, whether it is offline, the one that was used */
export const saveTokens: Script = script(`
local handle, tokens, has_refresh, refresh, offline = ARGV[5], ARGV[6], ARGV[7] == '1', ARGV[8], ARGV[9]
local session = read(handle)
if is_live(session) then
  if session.refresh ~= ARGV[10] then return 'outdated' end
  redis.call('HSET', key_of(handle), 'tokens', tokens)
  redis.call('HDEL', key_of(handle), 'refreshing', 'refresh', 'offline')
  if has_refresh then redis.call('HSET', key_of(handle), 'refresh', refresh, 'offline', offline) end
  if has_refresh and offline == '0' then keep_token(handle, session.exp) end
  tell(ARGV[2], ARGV[3], ARGV[4], handle)
  return 'saved'
end
if has_refresh and session and not session.ended then
  -- In what has expired the new one takes the place of the old one.
  if session.refresh == ARGV[10] then
    redis.call('HSET', key_of(handle), 'tokens', tokens, 'refresh', refresh, 'offline', offline)
    if offline == '0' then keep_token(handle, session.exp) end
  end
elseif has_refresh and was_framed(session) and tonumber(session.exp) * 1000 > now then
  redis.call('HSET', key_of(handle), 'refresh', refresh, 'offline', offline)
elseif has_refresh and session and session.ended and tonumber(session.exp) * 1000 > now
  and (offline == '0' or session.all == '1') and end_of(session).cause ~= 'frontchannel' then
  owe(refresh)
end
return 'gone'
`)

/** channel, node, scope, handle, end, whether something is owed downstream, it */
export const remove: Script = script(`
local session, flat = read(ARGV[5])
if not is_live(session) then return {} end
if ARGV[7] == '1' then owe(ARGV[8] .. '\\n' .. session.pub, ':down') end
finish(session, ARGV[6], false)
tell(ARGV[2], ARGV[3], ARGV[4], ARGV[5])
return flat
`)

/**
 * channel, node, scope, kind, name, whether a sub is compared, sub, jti, its expiry, attempt, watermark, its expiry, end,
 * whether offline tokens go too, whether the watermark is compared, whether something is owed downstream, it
 */
export const endBy: Script = script(`
local channel, node, scope, kind, name = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local compares, sub, jti, jti_expires, attempt = ARGV[7] == '1', ARGV[8], ARGV[9], ARGV[10], ARGV[11]
local watermark, mark_expires, ended = tonumber(ARGV[12]), tonumber(ARGV[13]), ARGV[14]
local revoke_offline, by_mark = ARGV[15] == '1', ARGV[16] == '1'

local jti_key = base .. ':jti:' .. jti
local claim = redis.call('GET', jti_key)
if claim then
  local expires, by = string.match(claim, '^(%S+) (%S+)$')
  if tonumber(expires) * 1000 > now and by ~= attempt then return { 'replay' } end
end

local mark = math.min(watermark, now / 1000)
local alive, dangling, expired = named_by(kind, name)
local function is_left(session) return kind == 'sid' and is_left_behind(session, name, mark) end
local function is_meant(session)
  return (not compares or session.sub == sub) and (not by_mark or tonumber(session.iat) <= mark)
end
local named, of_sub, members, answers = 0, 0, {}, {}
for _, each in ipairs(alive) do
  if not is_left(each.session) then
    named = named + 1
    if not compares or each.session.sub == sub then of_sub = of_sub + 1 end
    if is_meant(each.session) then
      members[#members + 1] = each.session
      answers[#answers + 1] = each.flat
    end
  end
end
if named > 0 and of_sub == 0 then return { 'sub_mismatch' } end

local over = {}
for _, session in ipairs(expired) do
  if not is_left(session) and is_meant(session) then over[#over + 1] = session end
end

local arrived, marked = now, mark
local known = mark_of(kind, name)
if known then
  arrived = math.max(arrived, known.arrived)
  mark_expires = math.max(mark_expires, known.expires)
  marked = math.max(marked, known.watermark)
end
local left_key, left = base .. ':left:' .. kind .. ':' .. name, {}
for _, handle in ipairs(redis.call('ZRANGE', left_key, 0, -1)) do
  local session = read(handle)
  if was_framed(session) and session[kind] == name and is_meant(session) then left[#left + 1] = session end
end
local unsaid_key = base .. ':unsaid:' .. kind .. ':' .. name
local unsaid = redis.call('LRANGE', unsaid_key, 0, -1)

local mark_left = mark_expires * 1000 - now
if mark_left > 0 then
  local text = whole(arrived) .. ' ' .. tostring(mark_expires) .. ' ' .. string.format('%.17g', marked)
  redis.call('SET', base .. ':out:' .. kind .. ':' .. name, text, 'PX', whole(math.ceil(mark_left)))
  redis.call('ZREMRANGEBYSCORE', base .. ':outs', '-inf', whole(now - math.ceil(mark_left)))
  redis.call('ZADD', base .. ':outs', whole(arrived), mark_key(scope, kind, name))
  keep(base .. ':outs', mark_left)
end
if ARGV[17] == '1' then
  local owed = { ARGV[18] }
  for _, session in ipairs(members) do owed[#owed + 1] = session.pub end
  for _, session in ipairs(over) do owed[#owed + 1] = session.pub end
  owe(table.concat(owed, '\\n'), ':down')
end
drop(kind, name, dangling)
for _, session in ipairs(members) do
  finish(session, ended, revoke_offline)
  tell(channel, node, scope, session.handle)
end
for _, session in ipairs(over) do
  local at = math.min(tonumber(session.idle), tonumber(session.exp))
  finish(session, cjson.encode({ cause = 'expired', at = at }), revoke_offline)
end
for _, session in ipairs(left) do
  if revoke_offline or session.offline == '0' then owe(session.refresh) end
  redis.call('HSET', key_of(session.handle), 'ended', ended, 'all', revoke_offline and '1' or '0')
  redis.call('HDEL', key_of(session.handle), 'refresh', 'offline', 'sid', 'sub', 'iat')
  redis.call('ZREM', base .. ':exp', session.handle)
  redis.call('ZREM', base .. ':left:sid:' .. session.sid, session.handle)
  redis.call('ZREM', base .. ':left:sub:' .. session.sub, session.handle)
end
sweep()
redis.call('PUBLISH', channel, node .. ' ' .. mark_key(scope, kind, name))
if #unsaid > 0 then redis.call('DEL', unsaid_key) end
local jti_left = tonumber(jti_expires) * 1000 - now
if jti_left > 0 then
  redis.call('SET', jti_key, jti_expires .. ' ' .. attempt, 'PX', whole(math.ceil(jti_left)))
end
return { 'ended', unsaid, answers }
`)

/** channel, node, scope, sid, end */
export const deleteBySid: Script = script(`
local members, dangling = named_by('sid', ARGV[5])
local answers = {}
drop('sid', ARGV[5], dangling)
for _, each in ipairs(members) do
  local session = each.session
  bury(session, ARGV[6])
  if session.refresh then
    redis.call('HSET', key_of(session.handle), 'refresh', session.refresh, 'offline', session.offline,
      'sid', ARGV[5], 'sub', session.sub, 'iat', session.iat)
    if session.offline == '0' then keep_token(session.handle, session.exp) end
    index(base .. ':left:sid:' .. ARGV[5], session.handle, session.exp)
    index(base .. ':left:sub:' .. session.sub, session.handle, session.exp)
  end
  tell(ARGV[2], ARGV[3], ARGV[4], session.handle)
  answers[#answers + 1] = each.flat
end
return answers
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

/** sid, whether there is one, sub: the logouts that named them, each as text or empty */
export const marks: Script = script(`
local by_sid = ARGV[3] == '1' and mark_of('sid', ARGV[2]) or nil
local by_sub = mark_of('sub', ARGV[4])
local function text(mark) return mark and string.format('%.17g', mark.watermark) or '' end
return { text(by_sid), text(by_sub) }
`)

/** since, limit: the latest logouts, each with its arrival */
export const arrivals: Script = script(`
return { whole(now), redis.call('ZREVRANGEBYSCORE', base .. ':outs', '+inf', ARGV[2], 'WITHSCORES', 'LIMIT', 0, ARGV[3]) }
`)

/** refresh token */
export const owe: Script = script(`
owe(ARGV[2])
return 1
`)

/** queue, limit, lease */
export const claimOwed: Script = script(`
local taken = {}
local queue = base .. ARGV[2]
local ids = redis.call('ZRANGEBYSCORE', queue, '-inf', whole(now), 'LIMIT', 0, ARGV[3])
for _, id in ipairs(ids) do
  local key = queue .. ':' .. id
  local owed = redis.call('HMGET', key, 'token', 'since')
  if owed[1] then
    local attempts = redis.call('HINCRBY', key, 'attempts', 1)
    redis.call('ZADD', queue, whole(now + tonumber(ARGV[4])), id)
    taken[#taken + 1] = { id, owed[1], attempts, whole(now - tonumber(owed[2])) }
  else
    redis.call('ZREM', queue, id)
  end
end
return taken
`)

/** queue, id, milliseconds until the next attempt, or empty when it is done */
export const settleOwed: Script = script(`
local queue, id, wait = base .. ARGV[2], ARGV[3], ARGV[4]
if wait == '' then
  redis.call('ZREM', queue, id)
  redis.call('DEL', queue .. ':' .. id)
else
  redis.call('ZADD', queue, 'XX', whole(now + tonumber(wait)), id)
end
return 1
`)

/** queue */
export const nextOwed: Script = script(`
local first = redis.call('ZRANGE', base .. ARGV[2], 0, 0, 'WITHSCORES')
if #first == 0 then return '' end
return whole(tonumber(first[2]) - now)
`)

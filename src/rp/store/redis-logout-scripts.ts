import { prelude, type Script, script } from './redis-script.ts'

/**
 * channel, node, kind, name, whether a sub is compared, sub, jti, its expiry, attempt, watermark, its expiry, end, whether
 * offline tokens go too, whether the watermark is compared, what is owed downstream if anything
 */
export const endBy: Script = script(`
local channel, node, kind, name, compares, sub, jti, jti_expires, attempt = unpack(ARGV, 2, 10)
local watermark, mark_expires, ended, revoke_offline, by_mark, downstream = unpack(ARGV, 11)
watermark, mark_expires = math.min(tonumber(watermark), now / 1000), tonumber(mark_expires)
compares, revoke_offline, by_mark = compares == '1', revoke_offline == '1', by_mark == '1'

local jti_key = base .. ':jti:' .. jti
local claim = redis.call('GET', jti_key)
if claim then
  local expires, by = string.match(claim, '^(%S+) (%S+)$')
  if tonumber(expires) * 1000 > now and by ~= attempt then return { 'replay' } end
end

local alive, expired, dangling = named_by(kind, name)
local function is_left(session) return kind == 'sid' and is_left_behind(session, name, watermark) end
local function is_of_sub(session) return not compares or session.sub == sub end
local function is_meant(session)
  return is_of_sub(session) and (not by_mark or tonumber(session.iat) <= watermark)
end
local named, of_sub, members, over = 0, 0, {}, {}
for _, session in ipairs(alive) do
  if not is_left(session) then
    named = named + 1
    if is_of_sub(session) then of_sub = of_sub + 1 end
    if is_meant(session) then members[#members + 1] = session end
  end
end
if named > 0 and of_sub == 0 then return { 'sub_mismatch' } end
for _, session in ipairs(expired) do
  if not is_left(session) and is_meant(session) then over[#over + 1] = session end
end

local arrived, marked = now, watermark
local known = mark_of(kind, name)
if known then
  arrived = math.max(arrived, known.arrived)
  mark_expires = math.max(mark_expires, known.expires)
  marked = math.max(marked, known.watermark)
end
local unsaid_key = base .. ':unsaid:' .. kind .. ':' .. name
local unsaid = redis.call('LRANGE', unsaid_key, 0, -1)

local mark_left = mark_expires * 1000 - now
if mark_left > 0 then
  local text = whole(arrived) .. ' ' .. tostring(mark_expires) .. ' ' .. string.format('%.17g', marked)
  redis.call('SET', base .. ':out:' .. kind .. ':' .. name, text, 'PX', whole(math.ceil(mark_left)))
  redis.call('ZREMRANGEBYSCORE', base .. ':outs', '-inf', whole(now - math.ceil(mark_left)))
  redis.call('ZADD', base .. ':outs', whole(arrived), mark_key(kind, name))
  keep(base .. ':outs', mark_left)
end
if downstream then
  local owed = { downstream }
  for _, session in ipairs(members) do owed[#owed + 1] = session.pub end
  for _, session in ipairs(over) do owed[#owed + 1] = session.pub end
  owe(table.concat(owed, '\\n'), ':down')
end
drop(kind, name, dangling)
local hints = { mark_key(kind, name) }
for _, session in ipairs(members) do
  finish(session, ended, revoke_offline)
  hints[#hints + 1] = hint_of(session.handle)
end
for _, session in ipairs(over) do
  local at = math.min(tonumber(session.idle), tonumber(session.exp))
  finish(session, session.framed or cjson.encode({ cause = 'expired', at = at }), revoke_offline)
end
sweep()
tell(channel, node, hints)
if #unsaid > 0 then redis.call('DEL', unsaid_key) end
local jti_left = tonumber(jti_expires) * 1000 - now
if jti_left > 0 then
  redis.call('SET', jti_key, jti_expires .. ' ' .. attempt, 'PX', whole(math.ceil(jti_left)))
end
return { 'ended', unsaid, flat_of(members) }
`)

/** channel, node, sid, end */
export const deleteBySid: Script = script(`
local channel, node, sid, ended = unpack(ARGV, 2)
local members, _, dangling = named_by('sid', sid)
local hints = {}
drop('sid', sid, dangling)
for _, session in ipairs(members) do
  -- Idle for ever, not since now: the server's clock may go back, above all in a failover.
  redis.call('HSET', key_of(session.handle), 'framed', ended, 'idle', '0')
  hints[#hints + 1] = hint_of(session.handle)
end
if #hints > 0 then tell(channel, node, hints) end
return flat_of(members)
`)

/** Takes the claim of an attempt back, and keeps what it ended for the next: kind, name, jti, attempt, ms, sessions. */
export const takeBack: Script = {
  lua: `${prelude}
local kind, name, jti, attempt, kept = unpack(ARGV, 2, 6)
local jti_key = base .. ':jti:' .. jti
local claim = redis.call('GET', jti_key)
local unsaid_key = base .. ':unsaid:' .. kind .. ':' .. name
for i = 7, #ARGV do redis.call('RPUSH', unsaid_key, ARGV[i]) end
if #ARGV > 6 then redis.call('PEXPIRE', unsaid_key, kept) end
if claim and string.match(claim, '(%S+)$') == attempt then redis.call('DEL', jti_key) end
return 1
`,
}

/** sub, sid if there is one: the logouts that named them, each as text or empty */
export const marks: Script = script(`
local sub, sid = unpack(ARGV, 2)
local function text(mark) return mark and string.format('%.17g', mark.watermark) or '' end
return { text(sid and mark_of('sid', sid)), text(mark_of('sub', sub)) }
`)

/** since, limit: the latest logouts, each with its arrival */
export const arrivals: Script = script(`
return { whole(now), redis.call('ZREVRANGEBYSCORE', base .. ':outs', '+inf', ARGV[2], 'WITHSCORES', 'LIMIT', 0, ARGV[3]) }
`)

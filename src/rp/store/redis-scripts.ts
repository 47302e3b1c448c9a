import { type Script, script } from './redis-script.ts'

export const time: Script = script('return whole(now)')

/** channel, node, the end of a switched user, the handle that is replaced or nothing, handle, fields */
export const create: Script = script(`
local channel, node, switched, replaces, handle = unpack(ARGV, 2, 6)
local session = table_of(ARGV, 7)
local requested = tonumber(session.requested)

local function overtaken(kind, name)
  local mark = mark_of(kind, name)
  return mark ~= nil and mark.arrived > requested
end
if overtaken('sub', session.sub) then return { 'outdated' } end
if session.sid and overtaken('sid', session.sid) then return { 'outdated' } end

local before = read(replaces)
local past = before and before.ended and cjson.decode(before.ended)
if past and past ~= cjson.null and tonumber(before.exp) * 1000 > now and (past.cause == 'this_app' or past.cause == 'rp_initiated')
  and (past.at_ms or past.at * 1000) > requested then return { 'outdated' } end
if not is_live(before) then
  before = nil
elseif before.sub ~= session.sub then
  finish(before, switched, false)
elseif before.sid then
  finish(before, 'null', false)
else
  remove(before)
end

index(base .. ':sub:' .. session.sub, handle, session.exp)
if session.sid then index(base .. ':sid:' .. session.sid, handle, session.exp) end
redis.call('DEL', key_of(handle))
redis.call('HSET', key_of(handle), unpack(ARGV, 7))
redis.call('PEXPIRE', key_of(handle), whole(math.ceil(tonumber(session.exp) * 1000 - now)))
if session.refresh and session.offline == '0' then keep_token(handle, session.exp) end
sweep()

if not before then return { 'created' } end
tell(channel, node, { hint_of(replaces) })
return { 'created', before.flat }
`)

/** handle */
export const get: Script = script(`
local session = read(ARGV[2])
return { whole(now), session and session.flat or {} }
`)

/** channel, node, handle, idle expiry, session_state if it changes */
export const update: Script = script(`
local channel, node, handle, idle, state = unpack(ARGV, 2)
local session = read(handle)
if not is_live(session) then return 0 end
if tonumber(idle) > tonumber(session.idle) then redis.call('HSET', key_of(handle), 'idle', idle) end
if state then
  redis.call('HSET', key_of(handle), 'state', state)
  tell(channel, node, { hint_of(handle) })
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
-- That of the login is kept among them once the browser has shown it again.
if session.sid == sid and of_grant then return 'added' end
local added = sids[sid] or { requested = 0, grant = false }
if of_grant then added.grant = true else added.requested = math.max(added.requested, requested) end
sids[sid] = nil
local others, last, shown_last = {}, 0, added.requested
for _, each in pairs(sids) do
  others[#others + 1] = each
  last, shown_last = math.max(last, each.learnt), math.max(shown_last, each.requested)
end
-- Where they are too many, the one that was learnt longest ago goes, but not the one that the browser has shown last.
local function is_shown_last(each) return each.requested > 0 and each.requested == shown_last end
table.sort(others, function(a, b)
  if is_shown_last(a) ~= is_shown_last(b) then return is_shown_last(a) end
  return a.learnt > b.learnt
end)
index(base .. ':sid:' .. sid, handle, session.exp)
redis.call('HSET', key_of(handle), 'sid:' .. sid,
  whole(added.requested) .. ' ' .. (added.grant and '1' or '0') .. ' ' .. whole(last + 1))
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

/** channel, node, handle, the refresh token that was used, tokens, a refresh token and whether it is offline if there is one */
export const saveTokens: Script = script(`
local channel, node, handle, used, tokens, refresh, offline = unpack(ARGV, 2)
local session = read(handle)
local function replace()
  redis.call('HSET', key_of(handle), 'tokens', tokens)
  redis.call('HDEL', key_of(handle), 'refreshing', 'refresh', 'offline')
  if refresh then redis.call('HSET', key_of(handle), 'refresh', refresh, 'offline', offline) end
  if refresh and offline == '0' then keep_token(handle, session.exp) end
end
if is_live(session) then
  if session.refresh ~= used then return 'outdated' end
  replace()
  tell(channel, node, { hint_of(handle) })
  return 'saved'
end
if not session or not refresh then return 'gone' end
if session.ended then
  if tonumber(session.exp) * 1000 > now and (offline == '0' or session.all == '1') then owe(refresh) end
elseif session.refresh == used then
  replace()
end
return 'gone'
`)

/** channel, node, handle, end, what is owed downstream if anything */
export const remove: Script = script(`
local channel, node, handle, ended, downstream = unpack(ARGV, 2)
local session = read(handle)
if not is_live(session) then return {} end
if downstream then owe(downstream .. '\\n' .. session.pub, ':down') end
finish(session, ended, false)
tell(channel, node, { hint_of(handle) })
return session.flat
`)

/** sub */
export const listBySub: Script = script(`
return flat_of((named_by('sub', ARGV[2])))
`)

/** sub, sids */
export const isGrantInUse: Script = script(`
local sub = ARGV[2]
local function is_held(kind, name)
  for _, session in ipairs((named_by(kind, name))) do
    local known = further_sids(session)[name]
    local is_of_grant = kind == 'sub' or session.sid == name or (known and known.grant)
    if session.refresh and session.sub == sub and is_of_grant then return true end
  end
  return false
end
if #ARGV == 2 then return is_held('sub', sub) and 1 or 0 end
for i = 3, #ARGV do
  if is_held('sid', ARGV[i]) then return 1 end
end
return 0
`)

"""What must happen in Redis in one step, as Lua scripts (https://redis.io/docs/latest/develop/programmability/eval-intro/).

Keys, below the prefix (which is KEYS[1] of every script):

  node:ID     {url, incarnation} of a machine, for as long as its lease
  load:ID     {participants, workers, draining} of a machine
  nodes       the ids of all machines, dead ones until somebody looks
  alive       there for as long as any machine has renewed its lease within one
  origins     sorted set of the addresses of all machines of the last day, dead ones too: pages that came from there live on
  settling    there for one lease after `alive` was missing: Redis was away or is new, so whoever seems dead may only be late
  fence       the highest fencing number so far
  room:ID     hash {node, incarnation, fence}: who has the room. It counts as long as that machine's lease lives
  state:ID    notes on a room and those in it

Times are milliseconds of Redis' clock, and only its clock decides. Keys are made inside the scripts, so this is for one Redis,
not for Redis Cluster.
"""

STATE_KEPT_MS = 600_000
"""How long a room's keys outlive its machine: long enough to come back, short enough that names do not lie about."""

_COMMON = (
    f"local kept_ms = {STATE_KEPT_MS}\n"
    + """
local prefix = KEYS[1]

local function lease_of(id, incarnation)
  local text = redis.call('GET', prefix .. 'node:' .. id)
  if not text then return nil end
  local node = cjson.decode(text)
  if node.incarnation ~= incarnation then return nil end
  return node
end

local function owner_of(room)
  local held = redis.call('HMGET', prefix .. 'room:' .. room, 'node', 'incarnation', 'fence')
  return {node = held[1] or '', incarnation = held[2] or '', fence = tonumber(held[3] or '0')}
end

local function take(room, id, incarnation, above)
  local highest = tonumber(redis.call('GET', prefix .. 'fence') or '0')
  local fence = math.max(highest, above) + 1
  redis.call('SET', prefix .. 'fence', string.format('%.0f', fence))
  redis.call('HSET', prefix .. 'room:' .. room, 'node', id, 'incarnation', incarnation, 'fence', string.format('%.0f', fence))
  redis.call('PEXPIRE', prefix .. 'room:' .. room, kept_ms)
  return fence
end
"""
)

RENEW = (
    _COMMON
    + """
-- ARGV: id, incarnation, url, lease_ms. Returns the incarnation that had the lease before, or ''.
local id, incarnation, url, lease_ms = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local before = redis.call('GET', prefix .. 'node:' .. id)
if redis.call('EXISTS', prefix .. 'alive') == 0 then
  redis.call('SET', prefix .. 'settling', '1', 'PX', lease_ms)
end
redis.call('SET', prefix .. 'alive', '1', 'PX', lease_ms)
redis.call('SET', prefix .. 'node:' .. id, cjson.encode({url = url, incarnation = incarnation}), 'PX', lease_ms)
redis.call('SADD', prefix .. 'nodes', id)
redis.call('ZADD', prefix .. 'origins', redis.call('TIME')[1], url)
return before and cjson.decode(before).incarnation or ''
"""
)

RESIGN = (
    _COMMON
    + """
-- ARGV: id, incarnation. The machine is gone, and says so.
if lease_of(ARGV[1], ARGV[2]) then
  redis.call('DEL', prefix .. 'node:' .. ARGV[1], prefix .. 'load:' .. ARGV[1])
  redis.call('SREM', prefix .. 'nodes', ARGV[1])
end
return 1
"""
)

BEAT = (
    _COMMON
    + """
-- ARGV: id, incarnation, lease_ms, load, then room and fence in turn (fence 0: not known any more).
-- Returns [milliseconds that the machine's lease still has, whether rooms can be taken, [[id, node, load], ...],
-- [[room, fence, url of the owner], ...], [origin, ...]]; fence 0: the room is somebody else's.
local id, incarnation, lease_ms, load = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
redis.call('SET', prefix .. 'load:' .. id, load, 'PX', lease_ms)
local left_ms = lease_of(id, incarnation) and redis.call('PTTL', prefix .. 'node:' .. id) or 0
local settled = redis.call('EXISTS', prefix .. 'alive') == 1 and redis.call('EXISTS', prefix .. 'settling') == 0
local nodes = {}
for _, other in ipairs(redis.call('SMEMBERS', prefix .. 'nodes')) do
  local node = redis.call('GET', prefix .. 'node:' .. other)
  if node then
    nodes[#nodes + 1] = {other, node, redis.call('GET', prefix .. 'load:' .. other) or ''}
  else
    redis.call('SREM', prefix .. 'nodes', other)
  end
end
local rooms = {}
for at = 5, #ARGV, 2 do
  local room, fence = ARGV[at], tonumber(ARGV[at + 1])
  local owner = owner_of(room)
  local node = lease_of(owner.node, owner.incarnation)
  if owner.node == id and owner.incarnation == incarnation then
    redis.call('PEXPIRE', prefix .. 'room:' .. room, kept_ms)
    redis.call('PEXPIRE', prefix .. 'state:' .. room, kept_ms)
    rooms[#rooms + 1] = {room, owner.fence, ''}
  elseif node and owner.fence > fence then
    rooms[#rooms + 1] = {room, 0, node.url}
  elseif left_ms > 0 then
    rooms[#rooms + 1] = {room, take(room, id, incarnation, math.max(fence, owner.fence)), ''}
  end
end
redis.call('ZREMRANGEBYSCORE', prefix .. 'origins', '-inf', redis.call('TIME')[1] - 86400)
local origins = redis.call('ZREVRANGE', prefix .. 'origins', 0, 255)
return {left_ms, settled and 1 or 0, nodes, rooms, origins}
"""
)

CLAIM = (
    _COMMON
    + """
-- ARGV: id, incarnation, room, may_take (0 or 1).
-- Returns [outcome, ...]: owned, fence, state or '' | elsewhere, url | free | settling, milliseconds to wait.
local id, incarnation, room = ARGV[1], ARGV[2], ARGV[3]
local owner = owner_of(room)
if owner.node == id and owner.incarnation == incarnation then
  return {'owned', owner.fence, redis.call('GET', prefix .. 'state:' .. room) or ''}
end
local node = lease_of(owner.node, owner.incarnation)
if node then return {'elsewhere', node.url} end
if ARGV[4] ~= '1' then return {'free'} end
if not lease_of(id, incarnation) then return {'settling', 100} end
local settling_ms = redis.call('PTTL', prefix .. 'settling')
if settling_ms > 0 then return {'settling', settling_ms} end
local fence = take(room, id, incarnation, owner.fence)
return {'owned', fence, redis.call('GET', prefix .. 'state:' .. room) or ''}
"""
)

WRITE = (
    _COMMON
    + """
-- ARGV: id, incarnation, room, fence, state. Returns 1, or 0 if the room is not held under this number.
local owner = owner_of(ARGV[3])
if owner.node ~= ARGV[1] or owner.incarnation ~= ARGV[2] or owner.fence ~= tonumber(ARGV[4]) then return 0 end
redis.call('SET', prefix .. 'state:' .. ARGV[3], ARGV[5], 'PX', kept_ms)
return 1
"""
)

RELEASE = (
    _COMMON
    + """
-- ARGV: id, incarnation, room, fence, forget (0 or 1). Returns 1, or 0 if the room is not held under this number.
local owner = owner_of(ARGV[3])
if owner.node ~= ARGV[1] or owner.incarnation ~= ARGV[2] or owner.fence ~= tonumber(ARGV[4]) then return 0 end
redis.call('DEL', prefix .. 'room:' .. ARGV[3])
if ARGV[5] == '1' then redis.call('DEL', prefix .. 'state:' .. ARGV[3]) end
return 1
"""
)

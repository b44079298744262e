-- The atomic steps of an evaluation's life. All keys share one hash tag, so that a cluster keeps them on one node.
-- KEYS[1]: what every key begins with. ARGV[1]: the step. The other arguments: see each step.
-- Keys: queue (stream, group `workers`), news (stream), index, waiting, ended (sorted sets), requests, states,
-- callers (hashes), parked:CALLER (lists), evaluation:ID (hashes), events:ID (streams with ids SEQUENCE-0).

local prefix = KEYS[1]
local queue, waiting, index = prefix .. 'queue', prefix .. 'waiting', prefix .. 'index'
local consumer_idle_ms, given_back_ms, claims_at_once = 3600000, 1000000000, 100

local function head(id) return prefix .. 'evaluation:' .. id end
local function of(id, name) return redis.call('HGET', head(id), name) end

local function now()
  local time = redis.call('TIME')
  return string.format('%d%06d', time[1], time[2])
end

local function tell(id, queue_changed)
  redis.call('XADD', prefix .. 'news', 'MAXLEN', '~', 1000, '*', 'id', id, 'queue', queue_changed)
end

local function event(id, state, time, progress)
  local sequence = redis.call('HINCRBY', head(id), 'sequence', 1)
  redis.call('XADD', prefix .. 'events:' .. id, sequence .. '-0', 'state', state, 'time', time,
    'attempt', of(id, 'attempt'), 'progress', progress)
end

local function enqueue(id)
  if redis.call('EXISTS', queue) == 0 then
    redis.call('XGROUP', 'CREATE', queue, 'workers', '0', 'MKSTREAM')
  end
  redis.call('HSET', head(id), 'entry', redis.call('XADD', queue, '*', 'id', id))
end

local function drop(entry)
  redis.call('XACK', queue, 'workers', entry)
  redis.call('XDEL', queue, entry)
end

-- Let the next evaluation of a caller that was at its limit into the queue.
local function unpark(caller)
  local id = redis.call('LPOP', prefix .. 'parked:' .. caller)
  while id and of(id, 'state') ~= 'queued' do id = redis.call('LPOP', prefix .. 'parked:' .. caller) end
  if id then enqueue(id) end
end

local function move(id, to)
  local from, caller, ordinal = unpack(redis.call('HMGET', head(id), 'state', 'caller', 'ordinal'))
  if from then redis.call('HINCRBY', prefix .. 'states', from, -1) end
  redis.call('HINCRBY', prefix .. 'states', to, 1)
  redis.call('HSET', head(id), 'state', to)
  if from == 'queued' then redis.call('ZREM', waiting, id) end
  if from == 'running' then
    if redis.call('HINCRBY', prefix .. 'callers', caller, -1) <= 0 then redis.call('HDEL', prefix .. 'callers', caller) end
    unpark(caller)
  end
  if to == 'queued' then
    redis.call('ZADD', waiting, ordinal, id)
  elseif to == 'running' then
    redis.call('HINCRBY', prefix .. 'callers', caller, 1)
  else
    local time = now()
    redis.call('HSET', head(id), 'ended', time)
    redis.call('ZADD', prefix .. 'ended', time, id)
  end
end

local function finish(id, state)
  drop(of(id, 'entry'))
  move(id, state)
  event(id, state, now(), of(id, 'progress'))
  tell(id, 1)
end

local function has_ended(state) return state ~= 'queued' and state ~= 'running' end

local function holds(id, attempt)
  local state, current = unpack(redis.call('HMGET', head(id), 'state', 'attempt'))
  return state == 'running' and current == attempt
end

local function described(id)
  return {id, redis.call('HGETALL', head(id)), redis.call('ZRANK', waiting, id)}
end

local steps = {}

function steps.create(id, request, caller, spec, most_queued)
  local known = request ~= '' and redis.call('HGET', prefix .. 'requests', request)
  if known then return described(known) end
  if redis.call('ZCARD', waiting) >= tonumber(most_queued) then return false end
  local ordinal = redis.call('INCR', prefix .. 'ordinal')
  redis.call('HSET', head(id), 'spec', spec, 'caller', caller, 'request', request, 'ordinal', ordinal, 'created', now(),
    'attempt', 0, 'deaths', 0, 'sequence', 0, 'progress', '')
  redis.call('ZADD', index, ordinal, id)
  if request ~= '' then redis.call('HSET', prefix .. 'requests', request, id) end
  enqueue(id)
  move(id, 'queued')
  event(id, 'queued', of(id, 'created'), '')
  tell(id, 1)
  return described(id)
end

-- An entry of the queue: one whose lease ran out or that was given back, else the oldest that nobody has taken.
local function next_entry(consumer, lease_ms)
  local cursor = '0-0'
  repeat -- one call looks at ten of those that are held
    local stale = redis.call('XAUTOCLAIM', queue, 'workers', consumer, lease_ms, cursor, 'COUNT', 1)
    if stale[2][1] then return stale[2][1] end
    cursor = stale[1]
  until cursor == '0-0'
  local fresh = redis.call('XREADGROUP', 'GROUP', 'workers', consumer, 'COUNT', 1, 'STREAMS', queue, '>')
  return fresh and fresh[1][2][1]
end

local function at_limit(id, most_per_caller)
  local running = tonumber(redis.call('HGET', prefix .. 'callers', of(id, 'caller')) or 0)
  return tonumber(most_per_caller) > 0 and running >= tonumber(most_per_caller)
end

local function take(id, entry, state)
  redis.call('HINCRBY', head(id), 'attempt', 1)
  redis.call('HSET', head(id), 'entry', entry, 'progress', '')
  if state == 'queued' then move(id, 'running') end
  event(id, 'running', now(), '')
  tell(id, 0)
  return {id, of(id, 'spec'), of(id, 'attempt'), of(id, 'sequence'), state == 'running' and 1 or 0}
end

function steps.claim(consumer, lease_ms, most_per_caller, most_deaths, failure)
  if redis.call('EXISTS', queue) == 0 then return false end
  for _ = 1, claims_at_once do
    local entry = next_entry(consumer, lease_ms)
    if not entry then return false end
    local id = entry[2][2]
    local state = of(id, 'state')
    if not state or has_ended(state) then
      drop(entry[1])
    elseif state == 'running' and redis.call('HINCRBY', head(id), 'deaths', 1) >= tonumber(most_deaths) then
      redis.call('HSET', head(id), 'failure', failure)
      finish(id, 'failed')
    elseif state == 'queued' and at_limit(id, most_per_caller) then
      redis.call('RPUSH', prefix .. 'parked:' .. of(id, 'caller'), id)
      drop(entry[1])
    else
      return take(id, entry[1], state)
    end
  end
  return false
end

function steps.renew(id, attempt, consumer)
  if not holds(id, attempt) then return 0 end
  redis.call('XCLAIM', queue, 'workers', consumer, 0, of(id, 'entry'), 'JUSTID')
  return 1
end

-- Events numbered from `first`, as time and progress in turn; what was recorded before is passed over.
function steps.record(id, attempt, first, ...)
  if not holds(id, attempt) then return 0 end
  local last, given = tonumber(of(id, 'sequence')), {...}
  if last < first - 1 then return 0 end
  for i = 1, #given, 2 do
    if first + (i - 1) / 2 > last then event(id, 'running', given[i], given[i + 1]) end
  end
  redis.call('HSET', head(id), 'progress', given[#given])
  tell(id, 0)
  return 1
end

function steps.finish(id, attempt, state, field, value)
  local reached, current = unpack(redis.call('HMGET', head(id), 'state', 'attempt'))
  if reached == state and current == attempt then return 1 end
  if not holds(id, attempt) then return 0 end
  redis.call('HSET', head(id), field, value)
  finish(id, state)
  return 1
end

function steps.give_back(id, attempt, consumer)
  if not holds(id, attempt) then return 0 end
  redis.call('XCLAIM', queue, 'workers', consumer, 0, of(id, 'entry'), 'IDLE', given_back_ms, 'JUSTID')
  move(id, 'queued')
  event(id, 'queued', now(), '')
  tell(id, 1)
  return 1
end

function steps.cancel(id)
  local state = of(id, 'state')
  if not state then return false end
  if not has_ended(state) then finish(id, 'cancelled') end
  return described(id)
end

function steps.delete(id)
  if not steps.cancel(id) then return false end
  local attempt, state, request = unpack(redis.call('HMGET', head(id), 'attempt', 'state', 'request'))
  redis.call('HINCRBY', prefix .. 'states', state, -1)
  redis.call('HDEL', prefix .. 'requests', request)
  redis.call('ZREM', index, id)
  redis.call('ZREM', prefix .. 'ended', id)
  redis.call('UNLINK', head(id), prefix .. 'events:' .. id)
  tell(id, 0)
  return attempt
end

function steps.get(id)
  return redis.call('EXISTS', head(id)) == 1 and described(id)
end

-- Those created before the one with the ordinal, the newest first.
function steps.page(before, count)
  local page = {}
  for _, id in ipairs(redis.call('ZREVRANGEBYSCORE', index, '(' .. before, '-inf', 'LIMIT', 0, count)) do
    page[#page + 1] = described(id)
  end
  return page
end

function steps.counts() return redis.call('HGETALL', prefix .. 'states') end

-- Ended evaluations beyond the newest `kept`, or that ended before a time; forgets replicas that are long gone.
function steps.expired(kept, before)
  if redis.call('EXISTS', queue) == 1 then
    for _, one in ipairs(redis.call('XINFO', 'CONSUMERS', queue, 'workers')) do
      if one[4] == 0 and one[6] > consumer_idle_ms then redis.call('XGROUP', 'DELCONSUMER', queue, 'workers', one[2]) end
    end
  end
  local many = redis.call('ZCARD', prefix .. 'ended') - kept
  local ids = many > 0 and redis.call('ZRANGE', prefix .. 'ended', 0, many - 1) or {}
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', prefix .. 'ended', '-inf', '(' .. before)) do ids[#ids + 1] = id end
  return ids
end

return steps[ARGV[1]](unpack(ARGV, 2))

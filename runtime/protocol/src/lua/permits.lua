-- The twin of tidegate_core::decide_permit: permits that expire, and the line before them.
--
-- KEYS[1]   those who hold permits, each with the time at which its permit expires
-- KEYS[2]   those who wait, each with its place
-- KEYS[3]   those who wait, each with the time at which it loses its place
-- ARGV[1]   the number of permits, their ttl, how long a place lasts, and how many may wait
-- ARGV[2..] the steps: a letter (Enter, Try, Renew, Leave) and the caller
-- returns   {permits held, callers that wait, microseconds until the next of them expires or -1,
--           for each step a place in the line, or: -1 entered, -2 full, -3 lost, -4 left, -5 was not here}
--
-- All times are microseconds since the Unix epoch, which doubles hold exactly until the year 2255.

local LAST = 9007199254740992
local call, match, sub = redis.call, string.match, string.sub
local floor, max, min = math.floor, math.max, math.min

local seen = call('TIME')
local now = tonumber(seen[1]) * 1000000 + tonumber(seen[2])
local limit, ttl, wait, longest = match(ARGV[1], '(%d+) (%d+) (%d+) (%d+)')
limit, ttl, wait, longest = tonumber(limit), tonumber(ttl), tonumber(wait), tonumber(longest)
local permits, line, waits = KEYS[1], KEYS[2], KEYS[3]

-- The score at an end of a set: 0 is the first, -1 the last; nil of no set.
local function score_at(key, place)
  return tonumber((call('ZRANGE', key, place, place, 'WITHSCORES'))[2])
end

for key = 1, 3 do
  local kind = call('TYPE', KEYS[key]).ok
  local strange = kind ~= 'zset' and kind ~= 'none'
  for place = strange and 1 or -1, 0 do
    local score = score_at(KEYS[key], place)
    if score and (score < 0 or score > LAST or score ~= floor(score)) then strange = true end
  end
  if strange then
    return redis.error_reply('CORRUPT key ' .. key .. ' holds a value that Tidegate did not write')
  end
end

call('ZREMRANGEBYSCORE', permits, '-inf', now)
for _, id in ipairs(call('ZRANGEBYSCORE', waits, '-inf', now)) do
  call('ZREM', line, id)
  call('ZREM', waits, id)
end
-- A server that evicts one of the two would leave places that nobody gives up. Those who wait ask again.
if call('ZCARD', line) ~= call('ZCARD', waits) then call('DEL', line, waits) end

local live = call('ZCARD', permits)

local function enter(id, wanted)
  local place = call('ZRANK', line, id)
  local ahead = place or call('ZCARD', line)
  if ahead < limit - live then
    call('ZREM', line, id)
    call('ZREM', waits, id)
    call('ZADD', permits, now + ttl, id)
    live = live + 1
    return -1
  end
  if wanted == 'T' or not place and ahead >= longest then return -2 end
  if not place then call('ZADD', line, (score_at(line, -1) or 0) + 1, id) end
  call('ZADD', waits, max(tonumber(call('ZSCORE', waits, id) or 0), now + wait), id)
  return ahead
end

local answers = {}
for step = 2, #ARGV do
  local ask, id = sub(ARGV[step], 1, 1), sub(ARGV[step], 2)
  local expires = call('ZSCORE', permits, id)
  if ask == 'L' then
    local held = call('ZREM', permits, id)
    live = live - held
    local waited = call('ZREM', line, id) + call('ZREM', waits, id)
    answers[step] = held + waited > 0 and -4 or -5
  elseif expires then
    call('ZADD', permits, max(tonumber(expires), now + ttl), id)
    answers[step] = -1
  elseif ask == 'R' then
    answers[step] = -3
  else
    answers[step] = enter(id, ask)
  end
end

-- Nothing outlives the last of those who hold or wait.
local function expire(key, last)
  if last then call('PEXPIRE', key, floor((last - now) / 1000) + 1) end
end
expire(permits, score_at(permits, -1))
local last = score_at(waits, -1)
expire(line, last)
expire(waits, last)

local next = min(score_at(permits, 0) or LAST, score_at(waits, 0) or LAST)
answers[1] = next < LAST and next - now or -1
return { live, call('ZCARD', line), unpack(answers) }

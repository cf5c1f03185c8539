-- The twin of tidegate_core::grant_lease.
-- ARGV[1]: "<id> <want> <spent> <is new> <held> <returned> <bound> <ttl ms> <rate> <most>": the
-- node and its report; rates in thousandths of a token per second. A node with a want of 0
-- leaves.
-- Beside the buckets is a hash of id -> "<until ms> <taken> <own of a second> <want>".
-- Adds to the answer "<tokens> <pace> <most in a second> <part> <hold ms>".

local MEMBERS, LONGEST_HOLD, BIGGEST = 128, 10000000000, 10000000000000
local WHOLE, FAIR, SHORT, NONE = 0, 1, 2, 3

local numbers = {}
for number in string.gmatch(ARGV[1], ' (%d+)') do numbers[#numbers + 1] = tonumber(number) end
local id = match(ARGV[1], '^%x+')
local want, spent, is_new, held, returned, bound, ttl, rate, largest = unpack(numbers)

-- The other nodes. Records that have lapsed, or that no node wrote, are deleted.
local found = redis.pcall('HGETALL', leases)
if found.err then return redis.error_reply('CORRUPT key 1 has something else for its leases') end
local wants, gone, last = {}, {}, now_ms + ttl
local others_taken, others_most, others_lack = 0, 0, 0
for at = 1, #found, 2 do
  local till, taken, most, wanted = match(found[at + 1], '^(%d+) (%d+) (%d+) (%d+)$')
  till, taken, most, wanted = tonumber(till), tonumber(taken), tonumber(most), tonumber(wanted)
  if found[at] == id then
    -- The node's own record is rewritten or deleted below.
  elseif till and till > now_ms and max(till - now_ms, taken, most, wanted) <= BIGGEST then
    others_taken, others_most = others_taken + taken, others_most + most
    others_lack = others_lack + max(floor(taken / 1000) - most, 0)
    wants[#wants + 1] = wanted
    last = max(last, till)
  elseif #gone < 100 then
    gone[#gone + 1] = found[at]
  end
end

-- What each tier may owe for slices. A tier that owes more is paused.
local owed, rooms, hold, left = {}, {}, 0, SPAN
for tier = 1, tiers do
  rooms[tier] = periods[tier] and spans[tier] or max(spans[tier], ttl * MILLI)
  local room = max(rooms[tier] - debts[tier], 0)
  left = min(left, (room - fmod(room, widths[tier])) / widths[tier])
  if debts[tier] > rooms[tier] then
    local distance, period = debts[tier] - (spans[tier] - widths[tier]), periods[tier]
    local pause = period and parts(distance, tokens[tier]) * period - fmod(now_ms, period)
      or parts(distance, MILLI)
    hold = max(hold, min(pause, LONGEST_HOLD))
  end
end

-- The node's share, max-min fair, by water filling.
local taken, pace, part = 0, 0, WHOLE
want = min(want, largest)
local asked = numbers[1]
if want > 0 and #wants >= MEMBERS then
  want, part = 0, NONE
elseif want > 0 then
  wants[#wants + 1] = want
  local level, spare = floor(rate / #wants), 0
  while true do
    local full, higher = 0, 0
    for _, wanted in ipairs(wants) do
      if wanted <= level then full = full + wanted else higher = higher + 1 end
    end
    if higher == 0 then
      spare = floor((rate - full) / #wants)
      break
    end
    local raised = floor((rate - full) / higher)
    if raised == level then break end
    level = raised
  end
  local target = min(want, level)
  taken = min(target, max(rate - others_taken, 0))
  -- What the fleet has not used in time is still in the bucket, and is made up for slowly.
  pace = left < floor(rate / 8000) and taken or min(taken + floor(taken / 25), largest)
  if taken < target - floor(target / 16) then
    part = SHORT
  elseif taken < asked then
    part = FAIR
  else
    taken = min(max(spent, want - floor(want / 64)), want)
    local near = is_new == 1 and 0 or min(spare, floor(want / 2))
    local rise = max(near, floor(want / 16), floor(spare / 16))
    pace = min(max(want + rise, parts(1000000, ttl)), largest)
    want = is_new == 1 and min(want * 3, largest) or taken
  end
end

-- What the node may spend in a second: its pace and a little more, out of what nobody owns.
-- What others lack of their shares is left to them unless the node lacks that itself.
local paced, share = floor(pace / 1000), floor(taken / 1000)
local most = pace > 0 and part ~= SHORT and 1 or 0
if paced > 0 then
  local free = max(floor(floor(rate / 25) * 26 / 1000) - others_most, 0)
  most = max(min(paced + max(floor(paced / 20), 1), free - others_lack), min(share, free))
end
if part == FAIR and most < share then part = SHORT end

-- The tokens, taken from each tier.
local granted = max(parts(pace * ttl, 1000000) - held, 0)
if hold > 0 then
  granted, returned = 0, 0
end
for tier = 1, tiers do
  owed[tier] = max(debts[tier] - returned * widths[tier], 0)
  local room = max(rooms[tier] - owed[tier], 0)
  granted = min(granted, (room - fmod(room, widths[tier])) / widths[tier])
end
for tier = 1, tiers do owed[tier] = owed[tier] + granted * widths[tier] end

if want > 0 then
  local record = format('%.0f %.0f %.0f %.0f', now_ms + ttl, taken, max(most, bound), want)
  redis.call('HSET', leases, id, record)
  redis.call('PEXPIRE', leases, last - now_ms)
else
  gone[#gone + 1] = id
end
if #gone > 0 then redis.call('HDEL', leases, unpack(gone)) end
seen[#seen + 1] = format('%.0f %.0f %.0f %.0f %.0f', granted, pace, most, part, hold)
return write(owed)

-- The twin of tidegate_core::decide_tiers, for a bucket that a fleet shares.
--
-- KEYS[1]           the bucket
-- ARGV[1]           the cost, in tokens
-- ARGV[2i], [2i+1]  tier i: its timeline and its burst
-- returns           {seconds, microseconds, value}: the clock and the bucket as
--                   they were (value is nil for a bucket never used), from which
--                   the caller replays the decision
--
-- A bucket's value is one word per tier, written under that tier's timeline:
--   smooth   <width>@<seconds><nine digits of nanoseconds>    the cell
--   stepped  <tokens>/<period ms>@<step>+<tokens owed>         the cell, relative to its step
-- Doubles are exact up to 2^53, so nothing here leaves that range: cells are
-- taken as a debt relative to now, and debts stop at SPAN.

local SPAN = 9007199254740992
local SECOND, MILLI = 1000000000, 1000000

local cost = tonumber(ARGV[1])
local time = redis.call('TIME')
local sec, nanos = tonumber(time[1]), tonumber(time[2]) * 1000
local now_ms = sec * 1000 + math.floor(nanos / MILLI)

-- Reads a whole number as this script writes it, or nothing.
local function whole(digits)
  local number = tonumber(digits)
  return number <= SPAN and string.format('%.0f', number) == digits and number or nil
end

-- Reads a timeline's text: width, and for a stepped one tokens and period.
local function timeline(text)
  local tokens, period = string.match(text, '^(%d+)/(%d+)$')
  if tokens then
    tokens, period = whole(tokens), whole(period)
    if tokens and period and tokens > 0 and period > 0 then
      return 1, tokens, period
    end
    return nil
  end
  local width = string.match(text, '^%d+$') and whole(text)
  return width and width > 0 and width or nil
end

-- Reads one tier of a value: its debt at now, and the width it is counted in.
local function debt_of(word)
  local written, cell = string.match(word, '^([%d/]+)@([%d+]+)$')
  if not written then return nil end
  local width, tokens, period = timeline(written)
  if not width then return nil end
  local debt
  if tokens then
    local step, owed = string.match(cell, '^(%d+)%+(%d+)$')
    if not step then return nil end
    step, owed = whole(step), whole(owed)
    if not (step and owed) then return nil end
    debt = owed - (math.floor(now_ms / period) - step) * tokens
  else
    if not string.match(cell, '^%d+$') or #cell < 10 or #cell > 19 then return nil end
    local ahead = tonumber(string.sub(cell, 1, -10)) - sec
    debt = ahead * SECOND + (tonumber(string.sub(cell, -9)) - nanos)
  end
  return math.min(math.max(debt, 0), SPAN), width
end

local value = redis.pcall('GET', KEYS[1])
if type(value) == 'table' then return value end

local words = {}
for word in string.gmatch(value or '', '[^ ]+') do words[#words + 1] = word end
if value and (#words < 1 or #words > 4) then
  return redis.error_reply('CORRUPT the value is not a bucket')
end
local debts, widths = {}, {}
for tier = 1, #words do
  debts[tier], widths[tier] = debt_of(words[tier])
  if not debts[tier] then
    return redis.error_reply('CORRUPT the value is not a bucket')
  end
end

local next_words, ttl = {}, 0
for tier = 1, (#ARGV - 1) / 2 do
  local text, burst = ARGV[2 * tier], tonumber(ARGV[2 * tier + 1])
  local width, tokens, period = timeline(text)

  local debt = debts[tier] or 0
  if debt > 0 and widths[tier] ~= width then
    -- The limit has changed: the debt stays the same in tokens, rounded up.
    local rest = math.fmod(debt, widths[tier])
    local owed = (debt - rest) / widths[tier] + (rest > 0 and 1 or 0)
    debt = math.min(owed * width, SPAN)
  end

  if cost == 0 or debt > burst * width - cost * width then
    return {time[1], time[2], value}
  end
  debt = debt + cost * width

  local full_in
  if tokens then
    local step = math.floor(now_ms / period)
    local rest = math.fmod(debt, tokens)
    local steps = (debt - rest) / tokens + (rest > 0 and 1 or 0)
    full_in = (step + steps) * period - now_ms
    next_words[tier] = string.format('%s@%.0f+%.0f', text, step, debt)
  else
    local rest = math.fmod(debt, SECOND)
    local at_sec, at_nanos = sec + (debt - rest) / SECOND, nanos + rest
    if at_nanos >= SECOND then
      at_sec, at_nanos = at_sec + 1, at_nanos - SECOND
    end
    full_in = math.ceil(debt / MILLI)
    next_words[tier] = string.format('%s@%.0f%09.0f', text, at_sec, at_nanos)
  end
  ttl = math.max(ttl, full_in)
end

-- A full bucket and no bucket are the same; one millisecond more than needed
-- covers the part of a millisecond that the expiry's clock has not yet shown.
redis.call('SET', KEYS[1], table.concat(next_words, ' '), 'PX', ttl + 1)
return {time[1], time[2], value}

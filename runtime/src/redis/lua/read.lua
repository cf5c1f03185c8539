-- What every operation begins with: the clock, and what the buckets owe by it.
--
-- KEYS              one bucket that holds all tiers, or one bucket for each tier
-- ARGV[1]           the operation's own arguments
-- ARGV[2i], [2i+1]  tier i: its timeline and its burst
-- returns           {seconds, microseconds, value of each key}: the clock and the buckets
--                   as they were (nil for one never used), from which the caller replays
--                   the answer
--
-- A bucket's value is one word per tier, written under that tier's timeline:
--   smooth   <width>@<seconds><nine digits of nanoseconds>    the cell
--   stepped  <tokens>/<period ms>@<step>+<tokens owed>         the cell, relative to its step
-- Doubles are exact up to 2^53, so nothing here leaves that range unless it is then cut
-- down to it: cells are taken as a debt relative to now, and debts stop at SPAN.

local SPAN = 9007199254740992
local SECOND, MILLI = 1000000000, 1000000
local match, floor, fmod, min, max = string.match, math.floor, math.fmod, math.min, math.max

local seen = redis.call('TIME')
local sec, nanos = tonumber(seen[1]), tonumber(seen[2]) * 1000
local now_ms, now_nanos = sec * 1000 + floor(nanos / MILLI), fmod(nanos, MILLI)

-- By tier: the limit; what the bucket owes on its timeline; its word, if it was written
-- under that timeline; a word to be put back as it was.
local widths, spans, tokens, periods = {}, {}, {}, {}
local debts, own, back = {}, {}, nil

local tiers = (#ARGV - 1) / 2
for tier = 1, tiers do
  local text = ARGV[2 * tier]
  local width = tonumber(text)
  if not width then
    width = 1
    local added, period = match(text, '(%d+)/(%d+)')
    tokens[tier], periods[tier] = tonumber(added), tonumber(period)
  end
  widths[tier], spans[tier], debts[tier] = width, ARGV[2 * tier + 1] * width, 0
end

-- The least whole number of parts that a whole number takes.
local function parts(number, size)
  local rest = fmod(number, size)
  return (number - rest) / size + (rest > 0 and 1 or 0)
end

-- Reads a whole number as these scripts write it, or nothing.
local function whole(digits)
  local number = tonumber(digits)
  return number <= SPAN and string.format('%.0f', number) == digits and number or nil
end

-- Reads a tier's word: its debt at now, its timeline's text, and the width it is counted
-- in. Nothing, if no script wrote it.
local function debt_of(word, tier)
  local limit = ARGV[2 * tier]
  local text, at_sec, at_nanos = match(word, '^(%d+)@(%d+)(%d%d%d%d%d%d%d%d%d)$')
  if text then
    local width = text == limit and widths[tier] or whole(text)
    if not width or width == 0 or #at_sec > 10 then return nil end
    local debt = (at_sec - sec) * SECOND + (at_nanos - nanos)
    return min(max(debt, 0), SPAN), text, width
  end
  local added, period, step, owed = match(word, '^(%d+)/(%d+)@(%d+)%+(%d+)$')
  if not added then return nil end
  added, period, step, owed = whole(added), whole(period), whole(step), whole(owed)
  if not (added and period and step and owed) or added == 0 or period == 0 then return nil end
  local debt = owed - (floor(now_ms / period) - step) * added
  return min(max(debt, 0), SPAN), match(word, '^[^@]+'), 1
end

for key = 1, #KEYS do
  local value = redis.pcall('GET', KEYS[key])
  -- In a bucket of its own a tier is the first.
  local first, tier, corrupt = key, key, false
  if type(value) == 'table' then
    if not match(value.err, '^WRONGTYPE') then return value end
    corrupt = true
  elseif value then
    for word in string.gmatch(value, '[^ ]+') do
      local debt, text, width = debt_of(word, tier)
      if not debt or tier == first + 4 then
        corrupt = true
        break
      end
      if tier <= tiers and (tier == first or #KEYS == 1) then
        own[tier] = text == ARGV[2 * tier] and word
        if width ~= widths[tier] then
          -- The limit has changed: the debt stays the same in tokens, rounded up.
          debt = min(parts(debt, width) * widths[tier], SPAN)
        end
        debts[tier] = debt
      end
      tier = tier + 1
    end
    corrupt = corrupt or tier == first
  end
  if corrupt then
    return redis.error_reply('CORRUPT key ' .. key .. ' does not hold a bucket')
  end
  seen[2 + key] = value
end


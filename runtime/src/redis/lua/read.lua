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

-- Reads a whole number as these scripts write it, or nothing.
local function whole(digits)
  local number = tonumber(digits)
  return number <= SPAN and string.format('%.0f', number) == digits and number or nil
end

-- Reads a word: its debt at now, its timeline's text, and the width it is counted in.
local function debt_of(word)
  local width, at_sec, at_nanos = match(word, '^(%d+)@(%d+)(%d%d%d%d%d%d%d%d%d)$')
  if width then
    local number = whole(width)
    if not number or number == 0 or #at_sec > 10 then return nil end
    local debt = (tonumber(at_sec) - sec) * SECOND + (tonumber(at_nanos) - nanos)
    return min(max(debt, 0), SPAN), width, number
  end
  local text, step, owed = match(word, '^([%d/]+)@(%d+)%+(%d+)$')
  local tokens, period = match(text or '', '^(%d+)/(%d+)$')
  if not tokens then return nil end
  tokens, period, step, owed = whole(tokens), whole(period), whole(step), whole(owed)
  if not (tokens and period and step and owed) or tokens == 0 or period == 0 then return nil end
  local debt = owed - (floor(now_ms / period) - step) * tokens
  return min(max(debt, 0), SPAN), text, 1
end

local function not_a_bucket(key)
  return redis.error_reply('CORRUPT key ' .. key .. ' does not hold a bucket')
end

-- The least whole number of parts that a whole number takes.
local function parts(number, size)
  local rest = fmod(number, size)
  return (number - rest) / size + (rest > 0 and 1 or 0)
end

-- By tier: the limit; what the bucket owes on its timeline; its word, if it was written
-- under that timeline.
local tiers = (#ARGV - 1) / 2
local texts, widths, spans, tokens, periods = {}, {}, {}, {}, {}
local debts, own = {}, {}
-- Words to be put back as they were.
local back

for tier = 1, tiers do
  local text = ARGV[2 * tier]
  local width = tonumber(text)
  if not width then
    width = 1
    local added, period = match(text, '(%d+)/(%d+)')
    tokens[tier], periods[tier] = tonumber(added), tonumber(period)
  end
  texts[tier], widths[tier] = text, width
  spans[tier] = ARGV[2 * tier + 1] * width
  debts[tier] = 0
end

for key = 1, #KEYS do
  local value = redis.pcall('GET', KEYS[key])
  if type(value) == 'table' then
    return match(value.err, '^WRONGTYPE') and not_a_bucket(key) or value
  end
  seen[2 + key] = value
  if value then
    local words = 0
    for word in string.gmatch(value, '[^ ]+') do
      words = words + 1
      local debt, text, width = debt_of(word)
      if not debt or words > 4 then
        return not_a_bucket(key)
      end
      -- In a bucket of its own a tier is the first.
      local tier = key + words - 1
      if tier <= tiers and (words == 1 or #KEYS == 1) then
        own[tier] = text == texts[tier] and word
        if debt > 0 and width ~= widths[tier] then
          -- The limit has changed: the debt stays the same in tokens, rounded up.
          debt = min(parts(debt, width) * widths[tier], SPAN)
        end
        debts[tier] = debt
      end
    end
    if words == 0 then
      return not_a_bucket(key)
    end
  end
end


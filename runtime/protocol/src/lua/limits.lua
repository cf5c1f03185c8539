-- Parses the limits, and defines how buckets are read.

local now_ms, now_nanos = sec * 1000 + floor(nanos / MILLI), fmod(nanos, MILLI)

-- Each table has one entry per tier. `widths`, `spans`, `tokens` and `periods` describe the limit;
-- `debts` is the bucket's debt on the limit's timeline; `own` is the bucket's word if it was written
-- under that timeline, and false if it was written under another; `back` is a word to be restored.
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

-- Reads a cost: one number for every tier, or one for each, joined by colons.
local function costs_of(text)
  local costs, all = {}, tonumber(text)
  local numbers = not all and string.gmatch(text, '%-?%d+')
  for tier = 1, tiers do costs[tier] = all or tonumber(numbers()) end
  return costs
end

-- How many parts of this size cover a whole number: the quotient, rounded up.
local function parts(number, size)
  local rest = fmod(number, size)
  return (number - rest) / size + (rest > 0 and 1 or 0)
end

-- Reads a whole number that is spelled as these scripts do; else nil.
local function whole(digits)
  local number = tonumber(digits)
  return number <= SPAN and format('%.0f', number) == digits and number or nil
end

-- Reads a tier's word: its debt now, its timeline's text, and the width the debt is counted
-- in. nil, if no script wrote it.
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

-- Reads a value's words into the tiers from first to last, and says whether it is a bucket.
local function read(value, first, last)
  local tier = first
  for word in string.gmatch(value, '[^ ]+') do
    local debt, text, width = debt_of(word, tier)
    if not debt or tier == first + 4 then return false end
    if tier <= last then
      own[tier] = text == ARGV[2 * tier] and word
      if width ~= widths[tier] then
        -- The limit has changed: the debt stays the same in tokens, rounded up.
        debt = min(parts(debt, width) * widths[tier], SPAN)
      end
      debts[tier] = debt
    end
    tier = tier + 1
  end
  return tier > first
end

-- Whether a tier's debt was carried over from another limit. It must be written, also by an operation
-- that changes nothing else: if each call carried it over anew, the bucket would go on to refill at
-- the other limit's rate, and the answers would promise this one's.
local function is_carried(tier)
  return own[tier] == false and debts[tier] > 0
end


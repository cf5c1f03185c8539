-- What every operation ends with: the buckets that now owe something else are written,
-- to live until they are full. A full bucket and no bucket are the same.

-- Longer than any server runs, in milliseconds.
local FOREVER = 1000000000000000

local function write(key, value, ttl)
  -- One millisecond more than needed covers the part of a millisecond that the expiry's
  -- clock has not yet shown, and lets a bucket that is full at once go.
  redis.call('SET', key, value, 'PX', ttl + 1)
end

local value, ttl, changed = nil, 0, false
for tier = 1, tiers do
  local debt, period = owed[tier], periods[tier]
  local word, full_in
  if period then
    local steps = parts(debt, tokens[tier])
    full_in = steps > 0 and min(steps * period, FOREVER) - fmod(now_ms, period) or 0
    word = string.format('%s@%.0f+%.0f', texts[tier], floor(now_ms / period), debt)
  else
    local rest = fmod(debt, SECOND)
    local at_sec, at_nanos = sec + (debt - rest) / SECOND, nanos + rest
    if at_nanos >= SECOND then
      at_sec, at_nanos = at_sec + 1, at_nanos - SECOND
    end
    full_in = math.ceil(debt / MILLI)
    word = string.format('%s@%.0f%09.0f', texts[tier], at_sec, at_nanos)
  end
  word = debt == debts[tier] and own[tier] or back and back[tier] or word
  if #KEYS > 1 then
    if debt ~= debts[tier] then write(KEYS[tier], word, full_in) end
  else
    value, ttl = value and value .. ' ' .. word or word, max(ttl, full_in)
    changed = changed or debt ~= debts[tier]
  end
end
if changed then write(KEYS[1], value, ttl) end
return seen

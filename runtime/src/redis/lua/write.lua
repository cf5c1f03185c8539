-- What every operation ends with: the buckets that now owe something else are written,
-- to live until they are full. A full bucket and no bucket are the same.

-- Longer than any server runs, in milliseconds.
local FOREVER = 1000000000000000

-- One millisecond more than needed covers the part of a millisecond that the expiry's
-- clock has not yet shown, and lets a bucket that is full at once go.
local value, ttl, changed = nil, 0, false
for tier = 1, tiers do
  local debt, period = owed[tier], periods[tier]
  local word, full_in
  if period then
    local steps = parts(debt, tokens[tier])
    full_in = steps > 0 and min(steps * period, FOREVER) - fmod(now_ms, period) or 0
    word = string.format('%s@%.0f+%.0f', ARGV[2 * tier], floor(now_ms / period), debt)
  else
    local rest = fmod(debt, SECOND)
    local at_sec, at_nanos = sec + (debt - rest) / SECOND, nanos + rest
    if at_nanos >= SECOND then
      at_sec, at_nanos = at_sec + 1, at_nanos - SECOND
    end
    full_in = math.ceil(debt / MILLI)
    word = string.format('%s@%.0f%09.0f', ARGV[2 * tier], at_sec, at_nanos)
  end
  word = debt == debts[tier] and own[tier] or back and back[tier] or word
  if #KEYS > 1 then
    if debt ~= debts[tier] then redis.call('SET', KEYS[tier], word, 'PX', full_in + 1) end
  else
    value, ttl = value and value .. ' ' .. word or word, max(ttl, full_in)
    changed = changed or debt ~= debts[tier]
  end
end
if changed then redis.call('SET', KEYS[1], value, 'PX', ttl + 1) end
return seen

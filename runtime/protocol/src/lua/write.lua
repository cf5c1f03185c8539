-- What every operation but a check of many ends with: the buckets that now owe something
-- else are written.

-- One millisecond more than needed covers the part of a millisecond that the expiry's
-- clock has not yet shown, and lets a bucket that is full at once go.
local value, ttl, changed = nil, 0, false
for tier = 1, tiers do
  local debt = owed[tier]
  local word, full_in = word_of(tier, debt)
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

-- The end of every operation but a check of many: writes the buckets whose debt has changed, and
-- what was carried over from another limit.

-- One millisecond more than needed covers the part of a millisecond that the expiry's
-- clock has not shown yet, and lets Redis drop a bucket that is full at once.
local function write(owed)
  local value, ttl, changed = nil, 0, false
  for tier = 1, tiers do
    local debt = owed[tier]
    local word, full_in = word_of(tier, debt)
    word = debt == debts[tier] and own[tier] or back and back[tier] or word
    local differs = debt ~= debts[tier] or is_carried(tier)
    if #KEYS > 1 then
      if differs then redis.call('SET', KEYS[tier], word, 'PX', full_in + 1) end
    else
      value, ttl = value and value .. ' ' .. word or word, max(ttl, full_in)
      changed = changed or differs
    end
  end
  if changed then redis.call('SET', KEYS[1], value, 'PX', ttl + 1) end
  return seen
end


-- The checks that the fast path left.

-- How many of count checks, one after the other, the buckets allow that owe this much.
local function admitted(owed, cost, count)
  for tier = 1, tiers do
    local charge, room = cost * widths[tier], spans[tier] - owed[tier]
    count = room < charge and 0 or min(count, (room - fmod(room, charge)) / charge)
  end
  return count
end

local owed = {}
for _, key in ipairs(left) do
  local value, charged, carried = values[key], 0, false
  for tier = 1, tiers do own[tier], debts[tier] = nil, 0 end
  if not value or read(value, 1, tiers) then
    for tier = 1, tiers do
      owed[tier] = debts[tier]
      carried = carried or is_carried(tier)
    end
    for cost, count in string.gmatch(costs[key], '(%d+)%*?(%d*)') do
      count = tonumber(cost) > 0 and admitted(owed, cost, tonumber(count) or 1) or 0
      for tier = 1, tiers do owed[tier] = owed[tier] + count * cost * widths[tier] end
      charged = charged + count
    end
  end

  if charged > 0 or carried then
    local word, ttl = word_of(1, owed[1])
    for tier = 2, tiers do
      local next_word, full_in = word_of(tier, owed[tier])
      word, ttl = word .. ' ' .. next_word, max(ttl, full_in)
    end
    if value then
      call('SET', KEYS[key], word, 'PX', ttl + 1)
    elseif not call('SET', KEYS[key], word, 'PX', ttl + 1, 'NX') then
      seen[2 + key] = 0
    end
  elseif not value and type(redis.pcall('GET', KEYS[key])) == 'table' then
    seen[2 + key] = 0
  end
end
return seen

-- The checks that the fast path left.

-- How many of count checks, one after the other, the buckets allow that owe this much. Tiers whose
-- cost is 0 are not asked, and checks that cost nothing are not counted.
local function admitted(owed, charges, count)
  local most
  for tier = 1, tiers do
    local charge, room = charges[tier], spans[tier] - owed[tier]
    if charge > 0 then
      most = room < charge and 0 or min(most or count, (room - fmod(room, charge)) / charge)
    end
  end
  return most or 0
end

-- What a cost takes from each tier. Most checks of a call have the same cost.
local read_cost, charges
local function charges_of(cost)
  if cost ~= read_cost then
    read_cost, charges = cost, costs_of(cost)
    for tier = 1, tiers do charges[tier] = charges[tier] * widths[tier] end
  end
  return charges
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
    for cost, count in string.gmatch(costs[key], '([%d:]+)%*?(%d*)') do
      local charges = charges_of(cost)
      count = admitted(owed, charges, tonumber(count) or 1)
      for tier = 1, tiers do owed[tier] = owed[tier] + count * charges[tier] end
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

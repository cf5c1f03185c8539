-- The twin of tidegate_core::decide_tiers, for a check with one bucket for each tier.
-- ARGV[1]: the cost, in tokens.

local costs = costs_of(ARGV[1])
local owed = {}
for tier = 1, tiers do
  local charge = costs[tier] * widths[tier]
  -- A tier whose cost is 0 is not asked.
  if charge > 0 and debts[tier] > spans[tier] - charge then return write(debts) end
  owed[tier] = debts[tier] + charge
end
return write(owed)

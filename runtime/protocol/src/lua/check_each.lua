-- The twin of tidegate_core::decide_tiers, for a check with one bucket for each tier.
-- ARGV[1]: the cost, in tokens.

local cost = tonumber(ARGV[1])
local owed = {}
for tier = 1, tiers do
  local charge = cost * widths[tier]
  if cost == 0 or debts[tier] > spans[tier] - charge then return write(debts) end
  owed[tier] = debts[tier] + charge
end
return write(owed)

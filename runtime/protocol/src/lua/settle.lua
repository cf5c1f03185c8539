-- The twin of tidegate_core::settle and credit. ARGV[1]: the tokens to charge, up to SPAN;
-- negative, to give back. One number for every tier, or one for each.

local owed, changes = {}, costs_of(ARGV[1])
for tier = 1, tiers do
  owed[tier] = min(max(debts[tier] + changes[tier] * widths[tier], 0), SPAN)
end
return write(owed)

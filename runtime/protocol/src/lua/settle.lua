-- The twin of tidegate_core::settle and credit. ARGV[1]: the tokens to charge, up to SPAN;
-- negative, to give back.

local owed = {}
for tier = 1, tiers do
  owed[tier] = min(max(debts[tier] + ARGV[1] * widths[tier], 0), SPAN)
end
return write(owed)

-- The twin of tidegate_core::cancel. ARGV[1]: one word per tier as the reservation left
-- it, then one per tier as it was before.
--
-- A tier whose word was written under another timeline has been changed since. One that owes
-- SPAN, where debts are cut off, may have been.

local words = {}
for word in string.gmatch(ARGV[1], '[^ ]+') do words[#words + 1] = word end

local owed = {}
back = {}
for tier = 1, tiers do
  local debt = debts[tier]
  owed[tier] = debt
  if own[tier] and debt < SPAN and debt == debt_of(words[tier], tier) then
    back[tier] = words[tiers + tier]
    owed[tier] = debt_of(back[tier], tier)
  end
end
return write(owed)

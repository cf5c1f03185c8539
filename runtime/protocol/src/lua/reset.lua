-- The twin of tidegate_core::reset.
--
-- The words are those of a bucket never used, which owes nothing even after the clock has stepped
-- back. They live for the shortest time, because no bucket means the same.

local words = {}
for tier = 1, tiers do
  words[tier] = ARGV[2 * tier] .. (periods[tier] and '@0+0' or '@0000000000')
end
if #KEYS == 1 then words = { table.concat(words, ' ') } end
for key = 1, #KEYS do
  if seen[2 + key] then redis.call('SET', KEYS[key], words[key], 'PX', 1) end
end
return seen

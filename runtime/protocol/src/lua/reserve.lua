-- The twin of tidegate_core::reserve.
-- ARGV[1]: "<cost> <milliseconds> <nanoseconds>", the tokens and the longest acceptable delay; then
-- the shortest useful delay in the same form, unless any is.

local cost, most_ms, most_nanos, least = match(ARGV[1], '([%d:]+) (%d+) (%d+)(.*)')
most_ms, most_nanos = tonumber(most_ms), tonumber(most_nanos)
local charges, is_free = costs_of(cost), true
for tier = 1, tiers do
  charges[tier] = charges[tier] * widths[tier]
  is_free = is_free and charges[tier] == 0
end
if is_free then return write(debts) end

-- The slot is when the last of the buckets would allow the cost.
local delay_ms, delay_nanos = match(least, '(%d+) (%d+)')
delay_ms, delay_nanos = tonumber(delay_ms) or 0, tonumber(delay_nanos) or 0
for tier = 1, tiers do
  local missing = charges[tier] > 0 and debts[tier] - (spans[tier] - charges[tier]) or 0
  if missing > 0 then
    local period, ms, rest = periods[tier], floor(missing / MILLI), fmod(missing, MILLI)
    if period then
      ms, rest = parts(missing, tokens[tier]) * period, 0
      ms, rest = ms - fmod(now_ms, period), rest - now_nanos
      if rest < 0 then
        ms, rest = ms - 1, rest + MILLI
      end
    end
    if later(ms, rest, delay_ms, delay_nanos) then
      delay_ms, delay_nanos = ms, rest
    end
  end
end
if later(delay_ms, delay_nanos, most_ms, most_nanos) then return write(debts) end
local slot_ms = clock_after(delay_ms, delay_nanos)
if not slot_ms then return write(debts) end

-- The tokens are taken at the time of the slot, wherever the bucket stands then.
local owed = {}
for tier = 1, tiers do
  local period, charge = periods[tier], charges[tier]
  local moved = delay_ms * MILLI + delay_nanos
  if period then
    moved = (floor(slot_ms / period) - floor(now_ms / period)) * tokens[tier]
  end
  local base = charge > 0 and max(debts[tier], moved) or debts[tier]
  if base > SPAN - charge then return write(debts) end
  owed[tier] = base + charge
end
return write(owed)

-- The twin of tidegate_core::hold. ARGV[1]: how long, as "<milliseconds> <nanoseconds>".

local wait_ms, wait_nanos = match(ARGV[1], '(%d+) (%d+)')
wait_ms, wait_nanos = tonumber(wait_ms), tonumber(wait_nanos)
local end_ms, end_nanos = clock_after(wait_ms, wait_nanos)
if not end_ms then
  end_ms, end_nanos = LAST_MS, LAST_NANOS
end

local owed = {}
for tier = 1, tiers do
  local debt
  local period = periods[tier]
  if period then
    -- The bucket is empty until the step, which brings its tokens.
    local steps = parts(end_ms + (end_nanos > 0 and 1 or 0), period) - floor(now_ms / period)
    debt = (steps - 1) * tokens[tier] + spans[tier]
  else
    -- When time has paid for the wait, all but one token are owed.
    debt = wait_ms * MILLI + (wait_nanos + (spans[tier] - widths[tier]))
  end
  owed[tier] = max(debts[tier], min(debt, SPAN))
end
return write(owed)

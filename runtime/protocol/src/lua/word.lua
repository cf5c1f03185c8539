-- What is written. A bucket lives until it is full, which is the same as no bucket.

-- A time in milliseconds that no server runs for.
local FOREVER = 1000000000000000

-- The word of a tier with this debt, and the milliseconds until it owes nothing.
local function word_of(tier, debt)
  local period = periods[tier]
  if period then
    local steps = parts(debt, tokens[tier])
    local full_in = steps > 0 and min(steps * period, FOREVER) - fmod(now_ms, period) or 0
    return format('%s@%.0f+%.0f', ARGV[2 * tier], floor(now_ms / period), debt), full_in
  end
  local rest = fmod(debt, SECOND)
  local at_sec, at_nanos = sec + (debt - rest) / SECOND, nanos + rest
  if at_nanos >= SECOND then
    at_sec, at_nanos = at_sec + 1, at_nanos - SECOND
  end
  return format('%s@%.0f%09.0f', ARGV[2 * tier], at_sec, at_nanos), math.ceil(debt / MILLI)
end


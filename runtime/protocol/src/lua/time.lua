-- Times beyond 2^53 ns, as whole milliseconds and the nanoseconds after them.

-- The end of the engine's clock: 2^64 - 1 ns.
local LAST_MS, LAST_NANOS = 18446744073709, 551615

local function later(ms, nanos, than_ms, than_nanos)
  return ms > than_ms or (ms == than_ms and nanos > than_nanos)
end

-- The clock after a wait; nil if that is past its end.
local function clock_after(wait_ms, wait_nanos)
  local end_ms, end_nanos = now_ms + wait_ms, now_nanos + wait_nanos
  if end_nanos >= MILLI then
    end_ms, end_nanos = end_ms + 1, end_nanos - MILLI
  end
  if later(end_ms, end_nanos, LAST_MS, LAST_NANOS) then return nil end
  return end_ms, end_nanos
end


-- The twin of tidegate_core::decide_tiers, for the checks of many buckets.
-- ARGV[1]: one cost, for one check of every key; or for each key, separated by spaces, a cost,
-- or the costs of its checks in order of arrival, as "<cost>*<count>" joined by commas. A cost is
-- one number for every tier, or one for each, joined by colons.
--
-- A foreign value is not overwritten; the answer has 0 for a value of another type.
--
-- The fast path: checks of one cost, on a bucket of one smooth tier, written under that limit.
-- check_rest.lua does the others.

local call, find, sub = redis.call, string.find, string.sub
local values = call('MGET', unpack(KEYS))
local next_costs = not tonumber(ARGV[1]) and string.gmatch(ARGV[1], '[^ ]+')

local left, costs
local width = #ARGV == 3 and tonumber(ARGV[2])
local span = width and ARGV[3] * width
local pattern = width and '^' .. ARGV[2] .. '@(%d%d%d%d%d%d%d%d%d%d)(%d%d%d%d%d%d%d%d%d)$'
local form = width and ARGV[2] .. '@%d%09d'

-- The word of a bucket that owes this much.
local function smooth_word(owed)
  local rest = fmod(owed, SECOND)
  local full_sec, full_nanos = sec + (owed - rest) / SECOND, nanos + rest
  if full_nanos >= SECOND then
    full_sec, full_nanos = full_sec + 1, full_nanos - SECOND
  end
  return format(form, full_sec, full_nanos)
end

local many = #KEYS > 1
local name = many and ARGV[2] .. '@'
local spec, cost, count, charge, full
for key = 1, #KEYS do
  local value, asked = values[key], next_costs and next_costs() or ARGV[1]
  if asked ~= spec then
    spec, cost, count = asked, tonumber(asked), 1
    if not cost then
      cost, count = match(spec, '^(%d+)%*(%d+)$')
      cost, count = tonumber(cost), tonumber(count)
    end
    charge = width and cost and cost > 0 and cost * width
    -- The last word that leaves room. A greater word of the same width and length means a
    -- refusal, and need not be parsed.
    full = many and charge and charge <= span and smooth_word(span - charge)
  end
  local late = value and full and #value == #full and value > full
  if not (late and sub(value, 1, #name) == name and not find(value, ' ', 1, true)) then
    local at_sec, at_nanos = sec, nanos
    if value and width then at_sec, at_nanos = match(value, pattern) end
    if charge and at_sec then
      local debt = max((at_sec - sec) * SECOND + (at_nanos - nanos), 0)
      local room = span - debt
      if charge <= room then
        local charged = charge
        if count > 1 then charged = charge * min(count, (room - fmod(room, charge)) / charge) end
        local owed = debt + charged
        local word = smooth_word(owed)
        local ttl = format('%d', math.ceil(owed / MILLI) + 1)
        if value then
          call('SET', KEYS[key], word, 'PX', ttl)
        elseif not call('SET', KEYS[key], word, 'PX', ttl, 'NX') then
          value = 0
        end
      end
    else
      left, costs = left or {}, costs or {}
      left[#left + 1], costs[key] = key, spec
    end
  end
  seen[2 + key] = value
end
if not left then return seen end


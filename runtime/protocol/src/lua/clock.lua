-- The beginning of every operation: the clock.
--
-- KEYS              one bucket that holds all tiers, or one bucket for each tier; or, for
--                   checks, many buckets that each hold all tiers
-- ARGV[1]           the operation's own arguments
-- ARGV[2i], [2i+1]  tier i: its timeline and its burst
-- returns           {seconds, microseconds, value of each key}: the clock and the buckets
--                   as they were (nil for one never used); the caller replays the operation
--                   on them
--
-- A bucket's value is one word per tier, written under that tier's timeline:
--   smooth   <width>@<seconds><nine digits of nanoseconds>    the cell
--   stepped  <tokens>/<period ms>@<step>+<tokens owed>         the cell, relative to its step
-- Doubles are exact up to 2^53, so no number here leaves that range unless it is then cut
-- down to it: a cell is read as a debt relative to now, and debts stop at SPAN.

local SPAN = 9007199254740992
local SECOND, MILLI = 1000000000, 1000000
local match, format = string.match, string.format
local floor, fmod, min, max = math.floor, math.fmod, math.min, math.max

local seen = redis.call('TIME')
local sec, nanos = tonumber(seen[1]), tonumber(seen[2]) * 1000

-- A value has ten digits of seconds, and a debt reaches SPAN nanoseconds ahead. Only a clock that is
-- set wrong shows a later time, and the debts that it made would outlive it by centuries.
local LAST_SECOND = 9990992799
if sec > LAST_SECOND then
  return redis.error_reply('CLOCK the clock of the store shows a time after the year 2286; set it right')
end


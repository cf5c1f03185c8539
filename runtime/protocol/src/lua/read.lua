-- Reads the buckets: one for all tiers, or one per tier, with its word first.

for key = 1, #KEYS do
  local value = redis.pcall('GET', KEYS[key])
  local is_bucket = true
  if type(value) == 'table' then
    if not match(value.err, '^WRONGTYPE') then return value end
    is_bucket = false
  elseif value then
    is_bucket = read(value, key, #KEYS == 1 and tiers or key)
  end
  if not is_bucket then
    return redis.error_reply('CORRUPT key ' .. key .. ' does not hold a bucket')
  end
  seen[2 + key] = value
end


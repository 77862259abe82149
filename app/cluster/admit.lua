-- Rate (GCRA, in integer microseconds) and quota of one call, decided together.
-- KEYS: rate of the class, counters of the period (one hash tag).
-- ARGV: rate limit, window in us, meter ('' for none), quota (<0 unlimited), units, seconds to keep.
-- Gives {0 rate | 1 ok | 2 quota | 3 rebuild first, rate remaining, rate reset us, retry after us, used, generation}.
local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local meter, quota, units = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]

local generation, used = '', 0
if meter ~= '' then
  local h = redis.call('HMGET', KEYS[2], 'gen', meter)
  if not h[1] then return {3, 0, 0, 0, 0, ''} end
  generation, used = h[1], tonumber(h[2] or '0')
end

local gap = math.floor(window / limit)
local tat = tonumber(redis.call('GET', KEYS[1]) or '0')
if tat < now then tat = now end
local allowed_from = tat + gap - window
if allowed_from > now then
  return {0, 0, tat - now, allowed_from - now, used, generation}
end
if meter ~= '' and quota >= 0 and used + units > quota then
  return {2, math.floor((window - (tat - now)) / gap), tat - now, 0, used, generation}
end
tat = tat + gap
redis.call('SET', KEYS[1], string.format('%.0f', tat), 'PX', math.ceil((tat - now) / 1000) + 1000)
if meter ~= '' and units > 0 then
  used = redis.call('HINCRBY', KEYS[2], meter, units)
end
return {1, math.floor((window - (tat - now)) / gap), tat - now, 0, used, generation}

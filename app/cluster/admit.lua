-- Rate (GCRA, in integer microseconds) and purses of one call, decided together.
-- KEYS: rate of the class, purses of the period (one hash tag). era is set before it.
-- ARGV: rate limit, window in us, then for each draw: meter, units, quota (<0 unlimited).
-- Gives {0 rate | 1 ok | 2 quota | 3 fill first, rate remaining, rate reset us, retry after us,
--        the draw that fell short (from 0), then for each draw seen: number of the purse, used}.
local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]

local gap = math.floor(window / limit)
local tat = tonumber(redis.call('GET', KEYS[1]) or '0')
if tat < now then tat = now end
local allowed_from = tat + gap - window
if allowed_from > now then
  return {0, 0, tat - now, allowed_from - now, 0}
end
local function answer(code, short, purses)
  local out = {code, math.floor((window - (tat - now)) / gap), tat - now, 0, short}
  for _, p in ipairs(purses) do
    out[#out + 1] = p[1]
    out[#out + 1] = p[2]
  end
  return out
end

local purses = {}
for i = 3, #ARGV, 3 do
  local meter, units, quota, short = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]), (i - 3) / 3
  local p = redis.call('HMGET', KEYS[2], meter .. ':n', meter .. ':left', meter .. ':total', meter .. ':full', meter .. ':era')
  if p[5] ~= era then return answer(3, short, purses) end
  local left, used = tonumber(p[2]), tonumber(p[3]) - tonumber(p[2])
  purses[#purses + 1] = {tonumber(p[1]), used}
  if left < units then
    local of, till = string.match(p[4] or '', '^(-?%d+):(%d+)$')
    if of ~= ARGV[i + 2] or tonumber(till) <= now then return answer(3, short, purses) end
    return answer(2, short, purses)
  end
  if quota >= 0 and used + units > quota then return answer(2, short, purses) end
end
for i = 3, #ARGV, 3 do
  redis.call('HINCRBY', KEYS[2], ARGV[i] .. ':left', string.format('%.0f', 0 - tonumber(ARGV[i + 1])))
  local p = purses[(i - 3) / 3 + 1]
  p[2] = p[2] + tonumber(ARGV[i + 1])
end
tat = tat + gap
redis.call('SET', KEYS[1], string.format('%.0f', tat), 'PX', math.ceil((tat - now) / 1000) + 1000)
return answer(1, 0, purses)

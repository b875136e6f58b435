-- The checks and the decision of Kilocard's gateway filter for the policy of the bench (minilm: v1 90 %, v2 10 %), as
-- somebody would write them for Envoy's Lua filter. The cohort hash is FNV-1a, since Lua has no xxh3 at hand.
local band, bxor = bit.band, bit.bxor

local MODELS = { minilm = { salt = "minilm-2026", stable = "v1", canary = "v2", canary_buckets = 1000, versions = { v1 = true, v2 = true } } }
local DEFAULT_MODEL = "minilm"
local MAX_VALUE, MAX_COUNT, MAX_TOTAL = 4096, 100, 32768
local SINGLE = { ["x-model"] = true, ["x-model-version"] = true, ["x-canary-weight"] = true, ["x-user-id"] = true, ["grpc-timeout"] = true,
  [":method"] = true, [":path"] = true, ["content-type"] = true, ["te"] = true }

local function refuse(handle, field, text)
  handle:respond({ [":status"] = "200", ["content-type"] = "application/grpc", ["grpc-status"] = "3", ["grpc-message"] = field .. ": " .. text }, "")
end

local function is_name(value)
  return #value <= 64 and value:match("^%w[%w._-]*$") ~= nil
end

-- application/grpc, then nothing, +subtype, ;parameters, or both.
local function is_content_type(value)
  local rest = value:match("^application/grpc(.*)$")
  return rest ~= nil and (rest == "" or rest:sub(1, 1) == ";" or rest:match("^%+[%w._+-]+$") ~= nil or rest:match("^%+[%w._+-]+;") ~= nil)
end

-- /package.Service/Method, of identifiers: no part begins with a digit or is empty.
local function is_path(value)
  local service = value:match("^/([%a_][%w_.]*)/[%a_][%w_]*$")
  return service ~= nil and not (service .. "."):find("%.[%d.]")
end

local function bucket(salt, key)
  local hash = 2166136261
  for i = 1, #salt do hash = band(bxor(hash, salt:byte(i)) * 16777619, 0xffffffff) end
  for i = 1, #key do hash = band(bxor(hash, key:byte(i)) * 16777619, 0xffffffff) end
  return hash % 10000
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local seen, count, total, internal = {}, 0, 0, nil
  for name, value in pairs(headers) do
    count = count + 1
    total = total + #name + #value
    if #value > MAX_VALUE then return refuse(handle, name, "value too long") end
    if value:find("[%z\1-\31\127]") then return refuse(handle, name, "control bytes") end
    if SINGLE[name] then
      if seen[name] then return refuse(handle, name, "more than once") end
      seen[name] = value
    elseif name:sub(1, 11) == "x-kilocard-" then
      internal = internal or {}
      internal[#internal + 1] = name
    end
  end
  if count > MAX_COUNT or total > MAX_TOTAL then return refuse(handle, "headers", "too many") end
  if internal then
    for _, name in ipairs(internal) do headers:remove(name) end
  end

  if seen[":method"] ~= "POST" then return refuse(handle, ":method", "not POST") end
  local path = seen[":path"]
  if not path or not is_path(path) then return refuse(handle, ":path", "not a method") end
  local content_type = seen["content-type"]
  if not content_type or not is_content_type(content_type) then return refuse(handle, "content-type", "not gRPC") end
  local te = seen["te"]
  if te and te:lower() ~= "trailers" then return refuse(handle, "te", "not trailers") end
  local timeout = seen["grpc-timeout"]
  if timeout and not (#timeout <= 9 and timeout:match("^%d+[HMSmun]$")) then return refuse(handle, "grpc-timeout", "malformed") end
  local weight = seen["x-canary-weight"]
  if weight and not (weight:match("^%d%d?%d?$") and tonumber(weight) <= 100) then return refuse(handle, "x-canary-weight", "not 0 to 100") end
  local user = seen["x-user-id"]
  if user and not (#user <= 128 and user:match("^[%w._@:+/=-]+$")) then return refuse(handle, "x-user-id", "malformed") end

  local name = seen["x-model"] or DEFAULT_MODEL
  if not is_name(name) then return refuse(handle, "x-model", "not a name") end
  local model = MODELS[name]
  if not model then return refuse(handle, "x-model", "unknown") end
  local version = seen["x-model-version"]
  if version then
    if not is_name(version) then return refuse(handle, "x-model-version", "not a name") end
    if not model.versions[version] then return refuse(handle, "x-model-version", "unknown") end
  else
    local drawn = user and bucket(model.salt, user) or math.random(0, 9999)
    version = drawn < model.canary_buckets and model.canary or model.stable
  end
  headers:replace("x-kilocard-route", name .. "/" .. version)
end

-- The checks and the decision of Kilocard's gateway filter for the policy of the bench (minilm: v1 90 %, v2 10 %; every other
-- setting as it is by default), as somebody would write them for Envoy's Lua filter. The cohort hash is FNV-1a, since Lua has
-- no xxh3 at hand; the first fault is told, not all of them; decisions are not counted, for which Envoy's Lua has no means;
-- and a wish for a GPU is checked but not turned into subset metadata and a tag (the measured request has none).
local band, bxor = bit.band, bit.bxor

local MODELS = { minilm = { salt = "minilm-2026", stable = "v1", canary = "v2", canary_buckets = 1000, versions = { v1 = true, v2 = true } } }
local DEFAULT_MODEL = "minilm"
local MAX_VALUE, MAX_COUNT, MAX_TOTAL = 4096, 100, 32768

local function set(names)
  local found = {}
  for name in names:gmatch("%S+") do found[name] = true end
  return found
end

-- Headers that are read; each may come once.
local SINGLE = set(":method :scheme :authority :path :protocol content-type te grpc-timeout grpc-encoding grpc-accept-encoding "
  .. "grpc-message-type grpc-previous-rpc-attempts grpc-trace-bin grpc-tags-bin x-model x-model-version x-canary-weight x-user-id "
  .. "x-tenant-id x-session-id x-gpu-affinity x-gpu-class x-trace-id traceparent x-request-id x-priority x-sla")
-- Of Envoy's own headers, those that steer nothing.
local INFORMING = set("x-envoy-attempt-count x-envoy-downstream-service-cluster x-envoy-downstream-service-node "
  .. "x-envoy-expected-rq-timeout-ms x-envoy-external-address x-envoy-internal x-envoy-peer-metadata x-envoy-peer-metadata-id")

local function refuse(handle, field, text)
  handle:respond({ [":status"] = "200", ["content-type"] = "application/grpc", ["grpc-status"] = "3", ["grpc-message"] = field .. ": " .. text }, "")
end

local function is_name(value)
  return #value <= 64 and value:match("^%w[%w._-]*$") ~= nil
end

-- Letters and digits with single separators between.
local function is_version(value)
  return is_name(value) and not value:find("[._-][._-]") and not value:find("[._-]$")
end

local function is_id(value)
  return #value <= 128 and value:match("^[%w._@:+/=-]+$") ~= nil
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

local function is_encoding(value)
  return #value >= 1 and #value <= 64 and not value:find("[^a-z0-9_.-]")
end

-- Whether this holds of each part between commas, without the blanks around it.
local function each(value, holds)
  for part in (value .. ","):gmatch("%s*([^,]-)%s*,") do
    if not holds(part) then return false end
  end
  return true
end

local function is_base64(text)
  local digits, padding = text:match("^([%w+/]*)(=?=?)$")
  if not digits then return false end
  if padding == "" then return #digits % 4 ~= 1 end
  return #text % 4 == 0
end

local HEX = "[0-9a-f]"
local TRACEPARENT = "^(" .. HEX:rep(2) .. ")%-(" .. HEX:rep(32) .. ")%-(" .. HEX:rep(16) .. ")%-" .. HEX:rep(2) .. "(.*)$"

local function is_traceparent(value)
  local version, trace, parent, rest = value:match(TRACEPARENT)
  return version ~= nil and version ~= "ff" and trace:find("[^0]") ~= nil and parent:find("[^0]") ~= nil
    and (rest == "" or (version ~= "00" and rest:sub(1, 1) == "-"))
end

local MEMORY = set(":high :medium :low")

local function is_gpu_affinity(value)
  local number, memory = value:match("^gpu(%d%d?%d?%d?)(.*)$")
  if number then
    if number ~= "0" and number:sub(1, 1) == "0" then return false end
  else
    memory = value:match("^any(.*)$")
  end
  return memory ~= nil and (memory == "" or MEMORY[memory] == true)
end

local function is_trace_id(value)
  return #value >= 8 and #value <= 64 and not value:find("[^%w-]")
end

local function is_percent(value)
  return value:match("^%d%d?%d?$") ~= nil and tonumber(value) <= 100
end

local function is_timeout(value)
  return #value <= 9 and value:match("^%d+[HMSmun]$") ~= nil
end

local function is_priority(value)
  return value == "P0" or value == "P1" or value == "P2"
end

local GRAMMARS = {
  { "grpc-timeout", is_timeout }, { "grpc-encoding", is_encoding },
  { "grpc-accept-encoding", function(value) return each(value, is_encoding) end },
  { "x-model", is_name }, { "x-model-version", is_version }, { "x-canary-weight", is_percent },
  { "x-gpu-affinity", is_gpu_affinity }, { "x-gpu-class", is_name }, { "x-user-id", is_id }, { "x-tenant-id", is_id },
  { "x-session-id", is_id }, { "x-trace-id", is_trace_id }, { "traceparent", is_traceparent }, { "x-priority", is_priority },
  { "x-sla", is_name },
}

local function is_internal(name)
  local first = name:sub(1, 8)
  if first == "x-envoy-" then return not INFORMING[name] end
  return first == "x-kiloca" and name:sub(1, 11) == "x-kilocard-" or name == "x-gateway-destination-endpoint"
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
    if value:find("[^\32-\126]") then return refuse(handle, name, "not printable ASCII") end
    if SINGLE[name] then
      if seen[name] then return refuse(handle, name, "more than once") end
      seen[name] = value
    else
      if name:find("[^a-z0-9_.-]") then return refuse(handle, name, "malformed name") end
      if name:sub(1, 5) == "grpc-" then return refuse(handle, name, "reserved") end
      if is_internal(name) then
        internal = internal or {}
        internal[#internal + 1] = name
      end
    end
    if name:sub(-4) == "-bin" and not each(value, is_base64) then return refuse(handle, name, "not base64") end
  end
  if count > MAX_COUNT or total > MAX_TOTAL then return refuse(handle, "headers", "too many") end
  if internal then
    for _, name in ipairs(internal) do headers:remove(name) end
  end

  local content_type = seen["content-type"]
  if not content_type or not is_content_type(content_type) then return refuse(handle, "content-type", "not gRPC") end
  if seen[":method"] ~= "POST" then return refuse(handle, ":method", "not POST") end
  local path = seen[":path"]
  if not path or not is_path(path) then return refuse(handle, ":path", "not a method") end
  local te = seen["te"]
  if te and te:lower() ~= "trailers" then return refuse(handle, "te", "not trailers") end
  for i = 1, #GRAMMARS do
    local grammar = GRAMMARS[i]
    local value = seen[grammar[1]]
    if value and not grammar[2](value) then return refuse(handle, grammar[1], "malformed") end
  end

  local name = seen["x-model"] or DEFAULT_MODEL
  local model = MODELS[name]
  if not model then return refuse(handle, "x-model", "unknown") end
  local version, record = seen["x-model-version"], nil
  if version then
    if not model.versions[version] then return refuse(handle, "x-model-version", "unknown") end
    record = "v=1 version=" .. name .. "/" .. version .. " why=PINNED rev=bench"
  else
    local user = seen["x-user-id"]
    local drawn = user and bucket(model.salt, user) or math.random(0, 9999)
    version = drawn < model.canary_buckets and model.canary or model.stable
    record = "v=1 bucket=" .. drawn .. " version=" .. name .. "/" .. version .. " why=" .. (user and "STICKY" or "WEIGHTED") .. " rev=bench"
  end
  headers:replace("x-kilocard-route", name .. "/" .. version)
  handle:streamInfo():dynamicMetadata():set("kilocard", "decision", record)
end

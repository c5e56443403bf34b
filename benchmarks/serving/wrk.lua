-- Cycles through request bodies, one a line of a file; tells what happened as one line of JSON.
local bodies, at, headers = {}, 0, {["Content-Type"] = "application/json"}

function init(args)
  for line in io.lines(args[1]) do bodies[#bodies + 1] = line end
  if args[2] then headers["Authorization"] = args[2] end
  for index, body in ipairs(bodies) do
    bodies[index] = wrk.format("POST", nil, headers, body)
  end
end

function request()
  at = at % #bodies + 1
  return bodies[at]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"seconds":%.6f,"p50":%.1f,"p99":%.1f,"bad":%d,"broken":%d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end

-- What the scripts share; each begins with dofile(helper).

-- Ends the script, and miltertest with a failure. Echoed, for miltertest keeps errors to itself.
local function fail(text)
  mt.echo(debug.traceback(text, 3))
  error(text)
end

-- A step that must succeed, and perhaps get a certain reply.
function step(failure, reply)
  if failure ~= nil then
    fail("failed: " .. tostring(failure))
  end
  if reply ~= nil and mt.getreply(conn) ~= reply then
    fail("reply " .. mt.getreply(conn) .. ", not " .. reply)
  end
end

function check(truth, what)
  if not truth then
    fail("not so: " .. what)
  end
end

function open()
  conn = mt.connect(sock)
  check(conn ~= nil, "connected")
end

// Runs the Lua text that stands at its input, with fengari (Lua 5.3 in JavaScript, which we did not write); prints go to the output.
const {lua, lauxlib, lualib, to_luastring, to_jsstring} = require(process.env.PEERS + "/fengari");
const L = lauxlib.luaL_newstate();
lualib.luaL_openlibs(L);
const text = require("fs").readFileSync(0);
if (lauxlib.luaL_dostring(L, new Uint8Array(text)) !== lua.LUA_OK) {
  console.error(to_jsstring(lua.lua_tostring(L, -1)));
  process.exit(1);
}

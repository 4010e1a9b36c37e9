// A device on npm's modbus-serial. Register n holds n, unless set; every request is written to stdout. Lines on stdin: "set <n> <word>",
// "late <ms> <every>" (every so many requests are answered late), "refuse <n>" (that register does not exist).
const { join } = require("path");
const readline = require("readline");
const { ServerTCP } = require(join(process.env.PEERS, "modbus-serial"));
const port = Number(process.argv[2]);
const words = new Map();
const refused = new Set();
let late = 0, every = 0, asked = 0;
const word = (n) => (words.has(n) ? words.get(n) : n & 0xffff);
const answer = (kind, start, count, unit, callback) => {
  asked += 1;
  console.log(`ask ${kind} ${start} ${count} ${unit}`);
  const give = () => {
    for (let n = start; n < start + count; n += 1) if (refused.has(n)) { callback({ modbusErrorCode: 2 }); return; }
    callback(null, Array.from({ length: count }, (_, n) => word(start + n)));
  };
  if (every && asked % every === 0) setTimeout(give, late); else give();
};
const one = (kind) => (n, unit, callback) => answer(kind, n, 1, unit, (error, words) => callback(error, words && words[0]));
const vector = {
  getMultipleHoldingRegisters: (start, count, unit, callback) => answer("holding", start, count, unit, callback),
  getMultipleInputRegisters: (start, count, unit, callback) => answer("input", start, count, unit, callback),
  getHoldingRegister: (n, unit, callback) => one("holding")(n, unit, callback),
  getInputRegister: (n, unit, callback) => one("input")(n, unit, callback),
  getCoil: (n) => n % 2 === 1,
  getDiscreteInput: (n) => n % 3 === 0,
  setRegister: (n) => { console.log(`WRITTEN ${n}`); },
  setCoil: (n) => { console.log(`WRITTEN ${n}`); },
};
const server = new ServerTCP(vector, { host: "127.0.0.1", port, unitID: 0 });
server.on("initialized", () => console.log("ready"));
server.on("socketError", () => {});
readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const [verb, a, b] = line.split(" ");
  if (verb === "set") words.set(Number(a), Number(b));
  else if (verb === "late") { late = Number(a); every = Number(b); } else if (verb === "refuse") refused.add(Number(a));
  console.log("done " + line);
});

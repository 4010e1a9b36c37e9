// An edge node of npm's sparkplug-client. Lines on stdin command it; every metric that it publishes goes to the file OFFERED, one JSON a line.
// node sparkplug_edge.js <broker url> <group> <node> <offered file>
const { join } = require("path");
const fs = require("fs");
const readline = require("readline");
const sparkplug = require(join(process.env.PEERS, "sparkplug-client"));
const [url, group, node, offered] = process.argv.slice(2);
const out = fs.openSync(offered, "w");
let at = 1764000000000;
const METRICS = [
  ["temperature", "Double", 21.5, 1], ["pressure", "Float", 1.25, 2], ["offset", "Int32", -12, 3], ["small", "Int8", -3, 4],
  ["short", "Int16", -300, 5], ["counter", "UInt32", 4000000000, 6], ["long", "Int64", -9007199254740991, 7], ["on", "Boolean", true, 8],
  ["state", "String", "运行", 9],
];
const metric = ([name, type, value, alias], birth) => ({ ...(birth ? { name } : {}), alias, type, value, timestamp: at });
const note = (verb, device, metrics) => metrics.forEach((m) => fs.writeSync(out, JSON.stringify({
  verb, device, name: METRICS.find((one) => one[3] === m.alias % 100)[0], value: m.value, timestamp: m.timestamp }) + "\n"));
const client = sparkplug.newClient({ serverUrl: url, username: "", password: "", groupId: group, edgeNode: node, clientId: node,
  version: "spBv1.0", reconnectPeriod: 200, keepalive: 5, publishDeath: true });
function birth() {
  const metrics = METRICS.map((one) => metric(one, true));
  const control = { name: "Node Control/Rebirth", type: "Boolean", value: false, timestamp: at };
  client.publishNodeBirth({ timestamp: at, metrics: [...metrics, control] });
  note("NBIRTH", null, metrics);
  const device = METRICS.slice(0, 2).map((one) => ({ ...metric(one, true), alias: one[3] + 100, properties: { engUnit: { type: "String", value: "Cel" } } }));
  client.publishDeviceBirth("mill", { timestamp: at, metrics: device });
  note("DBIRTH", "mill", device);
}
client.on("birth", () => { birth(); console.log("birth"); });
client.on("ncmd", (payload) => { console.log("ncmd " + payload.metrics.map((one) => one.name).join(",")); birth(); console.log("birth"); });
readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const [verb, count] = line.split(" ");
  if (verb === "data") {
    for (let n = 0; n < Number(count || 1); n += 1) {
      at += 10;
      const metrics = [metric(["temperature", "Double", 20 + n / 8, 1]), metric(["offset", "Int32", -n - 1, 3]), metric(["long", "Int64", -n - 5, 7])];
      client.publishNodeData({ timestamp: at, metrics });
      note("NDATA", null, metrics);
      const device = [{ ...metric(["pressure", "Float", n / 4, 2]), alias: 102 }];
      client.publishDeviceData("mill", { timestamp: at, metrics: device });
      note("DDATA", "mill", device);
    }
  } else if (verb === "skip") client.seq = (client.seq + 1) % 256;
  else if (verb === "ddeath") client.publishDeviceDeath("mill", { timestamp: at, metrics: [] });
  else if (verb === "stop") { client.stop(); setTimeout(() => process.exit(0), 200); }
  console.log("done " + line);
});
client.on("error", (error) => console.log("error " + error.message));

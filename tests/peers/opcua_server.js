// An OPC UA server for tests, node-opcua with nothing of ours in the protocol: items that count, and a file of what was offered.
//
//   node opcua_server.js '{"items": 50, "hz": 10, "offered": "/tmp/offered", "stats": "/tmp/stats"}'
//
// Prints "ready <port>". Each tick sets every item to the same next number with the same source time and appends "<number> <time ms>" to
// the offered file. Commands are JSON lines on the standard input: {"do": "halt"}, {"do": "go"}, {"do": "step", "ms": 37000},
// {"do": "delete", "names": ["Item3"]}, {"do": "add", "names": ["Item3"]}, {"do": "set", "name": "x", "value": 1, "type": "Double"}, {"do": "forget"} (sessions and
// subscriptions are dropped), {"do": "exit"}. Each is answered by one line, "done".
//
// minimumSamplingInterval and minSupportedSampleRate are 0: otherwise the server itself samples, and drops what lies between.
"use strict";
const crypto = require("node:crypto");
const fs = require("node:fs");
const readline = require("node:readline");
const opcua = require(process.env.PEERS + "/node-opcua");

const given = {
  port: 0, items: 50, hz: 10, first: 1, offered: null, stats: null, uri: "urn:machine.example", before: [], omit: [], secured: false,
  folder: null, history: false, kinds: false, queue: 100000, halted: false, skip: [], pad: 0, shift: 0, product: "Test peer", trust: true, trustUsers: true,
  ...JSON.parse(process.argv[2] || "{}"),
};

async function main() {
  const certificates = {};
  if (given.folder) {
    certificates.serverCertificateManager = new opcua.OPCUACertificateManager({
      automaticallyAcceptUnknownCertificate: given.trust, rootFolder: given.folder,
    });
    certificates.userCertificateManager = new opcua.OPCUACertificateManager({
      automaticallyAcceptUnknownCertificate: given.trustUsers, rootFolder: given.folder + "-users",
    });
  }
  if (certificates.userCertificateManager && !given.trustUsers) {
    // a person is trusted by the certificate that the administrator put there before
    await certificates.userCertificateManager.initialize();
    for (const pem of given.users || []) await certificates.userCertificateManager.trustCertificate(new crypto.X509Certificate(fs.readFileSync(pem)).raw);
  }
  const server = new opcua.OPCUAServer({
    port: given.port,
    hostname: "127.0.0.1",
    alternateHostname: ["localhost", "127.0.0.1"],
    ...certificates,
    securityModes: given.secured
      ? [opcua.MessageSecurityMode.Sign, opcua.MessageSecurityMode.SignAndEncrypt]
      : [opcua.MessageSecurityMode.None],
    securityPolicies: given.secured
      ? [opcua.SecurityPolicy.Basic256Sha256, opcua.SecurityPolicy.Aes128_Sha256_RsaOaep, opcua.SecurityPolicy.Aes256_Sha256_RsaPss]
      : [opcua.SecurityPolicy.None],
    allowAnonymous: !given.user,
    userManager: { isValidUser: (name, password) => given.user !== undefined && name === given.user && password === given.password },
    buildInfo: { productName: given.product, manufacturerName: "example", softwareVersion: "1.0" },
    serverCapabilities: new opcua.ServerCapabilities({
      minSupportedSampleRate: 0, maxMonitoredItemsQueueSize: given.queue, maxSessions: 50,
    }),
    disableDiscovery: !given.secured,
  });
  await server.initialize();
  const space = server.engine.addressSpace;
  for (const uri of given.before) space.registerNamespace(uri);
  const own = space.registerNamespace(given.uri);
  const machine = own.addObject({ organizedBy: space.rootFolder.objects, browseName: "Machine", nodeId: "s=Machine" });
  const nodes = new Map();
  const value = (number) => given.pad
    ? new opcua.Variant({ dataType: opcua.DataType.String, value: `${number} ${crypto.randomBytes(given.pad * 0.75).toString("base64")}` })
    : new opcua.Variant({ dataType: opcua.DataType.UInt32, value: number });
  const add = (name) => {
    const node = own.addVariable({
      componentOf: machine, browseName: name, nodeId: `s=${given.before.length ? "moved-" : ""}${name}`, dataType: given.pad ? "String" : "UInt32",
      minimumSamplingInterval: 0, historizing: given.history,
    });
    node.setValueFromSource(value(given.first - 1));
    if (given.history) space.installHistoricalDataNode(node, { maxOnlineValues: 100000 });
    nodes.set(name, node);
  };
  for (let index = 0; index < given.items; index++) if (!given.omit.includes(`Item${index}`)) add(`Item${index}`);
  if (given.kinds) kinds(space, own, machine);
  await server.start();
  const port = server.endpoints[0].port;

  let next = given.first, shift = given.shift, last = 0, halted = given.halted;
  const offered = given.offered ? fs.openSync(given.offered, "a") : null;
  const skip = new Set(given.skip);
  const began = Date.now();
  let ticks = 0;
  const tick = () => {
    const due = Math.floor(((Date.now() - began) * given.hz) / 1000);
    if (due <= ticks) return;
    ticks = due;
    if (halted) return;
    const at = Math.max(Date.now() + shift, shift < 0 ? 0 : last + 1);
    last = at;
    const number = next++;
    if (offered !== null) fs.writeSync(offered, `${number} ${at}\n`);
    if (skip.has(number)) return;
    const time = new Date(at);
    const variant = value(number);
    for (const node of nodes.values()) node.setValueFromSource(variant, opcua.StatusCodes.Good, time);
  };
  setInterval(tick, Math.max(1, Math.floor(500 / given.hz)));
  if (given.stats) {
    const stats = fs.openSync(given.stats, "a");
    setInterval(() => {
      const sessions = {};
      for (const session of Object.values(server.engine._sessions)) {
        const name = String(session.clientDescription?.applicationName?.text || "?");
        sessions[name] = (sessions[name] || 0) + 1;
      }
      fs.writeSync(stats, JSON.stringify({ at: Date.now(), sessions, subscriptions: server.engine.currentSubscriptionCount, cpu: process.cpuUsage() }) + "\n");
    }, 100);
  }
  const say = (text) => process.stdout.write(text + "\n");
  for (const signal of ["SIGTERM", "SIGINT"]) process.on(signal, () => process.exit(0));
  readline.createInterface({ input: process.stdin }).on("line", async (line) => {
    const command = JSON.parse(line);
    if (command.do === "halt") halted = true;
    if (command.do === "go") halted = false;
    if (command.do === "step") shift += command.ms;
    if (command.do === "delete") for (const name of command.names) { space.deleteNode(nodes.get(name)); nodes.delete(name); }
    if (command.do === "add") command.names.forEach(add);
    if (command.do === "set") {
      const node = own.findNode(`s=${command.name}`);
      node.setValueFromSource({ dataType: opcua.DataType[command.type], value: command.value });
    }
    if (command.do === "forget") for (const session of Object.values(server.engine._sessions)) server.engine.closeSession(session.authenticationToken, true, "Forcing");
    say("done");
    if (command.do === "exit") process.exit(0);
  }).on("close", () => process.exit(0));
  say(`ready ${port}`);
}

function kinds(space, own, machine) {
  const put = (name, dataType, value, extra = {}) => own.addVariable({
    componentOf: machine, browseName: name, nodeId: `s=${name}`, dataType, minimumSamplingInterval: 0,
    value: value === undefined ? undefined : new opcua.Variant({ dataType: opcua.DataType[dataType], value, ...extra }),
  });
  put("Power", "Double", 1.5);
  put("Energy", "Int64", [2097152, 1], { arrayType: opcua.VariantArrayType.Scalar }); // 2^53 + 1
  put("Running", "Boolean", true);
  put("State", "String", "ready");
  put("Moment", "DateTime", new Date("2026-11-24T08:00:00.123Z"));
  put("Bytes", "ByteString", Buffer.from("00ff", "hex"));
  put("Name", "LocalizedText", new opcua.LocalizedText({ locale: "zh", text: "主轴" }));
  own.addVariable({
    componentOf: machine, browseName: "Axis", nodeId: "s=Axis", dataType: "Double", valueRank: 1, arrayDimensions: [3], minimumSamplingInterval: 0,
    value: new opcua.Variant({ dataType: opcua.DataType.Double, arrayType: opcua.VariantArrayType.Array, value: Float64Array.from([1, 2.5, -3]) }),
  });
  own.addVariable({
    componentOf: machine, browseName: "Range", nodeId: "s=Range", dataType: "Range", minimumSamplingInterval: 0,
    value: new opcua.Variant({ dataType: opcua.DataType.ExtensionObject, value: new opcua.Range({ low: -1.5, high: 20 }) }),
  });
  own.addVariable({
    componentOf: machine, browseName: "Grid", nodeId: "s=Grid", dataType: "Int32", valueRank: 2, arrayDimensions: [2, 2], minimumSamplingInterval: 0,
    value: new opcua.Variant({ dataType: opcua.DataType.Int32, arrayType: opcua.VariantArrayType.Matrix, dimensions: [2, 2], value: Int32Array.from([1, 2, 3, 4]) }),
  });
  // a name with the characters that a path reserves, and an element in another namespace
  const other = space.registerNamespace("http://other.example/UA/");
  const folder = other.addObject({ componentOf: machine, browseName: "A/B.C", nodeId: "s=ABC" });
  own.addVariable({ componentOf: folder, browseName: "Depth", nodeId: "s=Depth", dataType: "Double", minimumSamplingInterval: 0, value: { dataType: opcua.DataType.Double, value: 7 } });
  own.addAnalogDataItem({
    componentOf: machine, browseName: "Pressure", nodeId: "s=Pressure", dataType: "Double", minimumSamplingInterval: 0,
    engineeringUnits: opcua.standardUnits.bar, engineeringUnitsRange: { low: 0, high: 10 }, value: { dataType: opcua.DataType.Double, value: 6.25 },
  });
}

main().catch((error) => { process.stderr.write(String(error.stack || error) + "\n"); process.exit(1); });

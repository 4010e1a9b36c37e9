// A host of npm's sparkplug-payload and mqtt: decodes what edge nodes publish and prints it, one JSON a line; it keeps the births' aliases.
// node sparkplug_host.js <broker url>
const { join } = require("path");
const payload = require(join(process.env.PEERS, "sparkplug-payload")).get("spBv1.0");
const mqtt = require(join(process.env.PEERS, "mqtt"));
const client = mqtt.connect(process.argv[2], { reconnectPeriod: 0, protocolVersion: 4 });
const names = {};
const plain = (value) => (value && typeof value === "object" && "toNumber" in value ? value.toNumber() : value);
// the package leaves the sign of an Int64 to its caller (field long_value is unsigned: Sparkplug 3.0.0, 6.4.16)
const meant = (one) => (one.type === "Int64" && one.value && one.value.toSigned ? one.value.toSigned().toNumber() : plain(one.value));
client.on("connect", () => client.subscribe("spBv1.0/#", { qos: 1 }, () => console.log("ready")));
client.on("message", (topic, data) => {
  const [, group, verb, node] = topic.split("/");
  const told = payload.decodePayload(data);
  const metrics = told.metrics.map((one) => {
    if (verb === "NBIRTH" && one.alias !== undefined && one.alias !== null) names[`${node} ${plain(one.alias)}`] = one.name;
    return { name: one.name || names[`${node} ${plain(one.alias)}`], type: one.type, value: meant(one), at: plain(one.timestamp) };
  });
  console.log(JSON.stringify({ group, node, verb, seq: plain(told.seq), metrics }));
});
client.on("error", (error) => console.log("error " + error.message));

// Verifies an evidence package in the browser, with WebCrypto only: no library, no network, nothing kept. It judges as guantong/verify.py
// does, check by check; what it leaves to the command line it says. Sources: RFC 6962 and 9162 (tree), RFC 8032 (Ed25519), RFC 8785
// (canonical JSON), C2SP signed-note, tlog-checkpoint, tlog-cosignature, tlog-proof@v1, tlog-policy, APPNOTE 6.3.10 (zip).
"use strict";

(() => {
  const MAX_BYTES = 512 * 1024 * 1024, MAX_SIZE = 2n ** 63n - 1n, AHEAD_S = 24n * 3600n, LOG_KEY = 1, WITNESS_KEY = 4;
  const PRICE = "https://w3id.org/guantong/ns/pricePlan", TERMS = "https://w3id.org/guantong/ns/contractTerms";
  const RECORD = ("v type recordId agreementId agreementHash policyHash assetId assetVersion transferProcessId consumerProcessId seq provider "
    + "consumer from to unit quantity rows bytes complete purpose contentAlg blockBytes contentRoot chunkCount prev meterSource clock salt").split(" ");

  /** What is wrong, in both languages. */
  class Failed extends Error {
    constructor(en, zh) { super(en); this.words = { en, zh }; }
  }
  const fail = (en, zh) => { throw new Failed(en, zh); };
  const malformed = (what) => fail(`malformed: ${what}`, `格式有误（${what}）`);

  // ---- bytes

  const encoder = new TextEncoder();
  const utf8 = (text) => encoder.encode(text);
  const textOf = (bytes) => new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  const hex = (bytes) => Array.from(bytes, (one) => one.toString(16).padStart(2, "0")).join("");
  const join = (...parts) => {
    const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of parts) { whole.set(part, at); at += part.length; }
    return whole;
  };
  const same = (one, other) => one.length === other.length && one.every((byte, at) => byte === other[at]);
  const sha256 = async (bytes) => new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  const digestOf = async (bytes) => "sha256:" + hex(await sha256(bytes));
  const b64 = (bytes) => btoa(Array.from(bytes, (one) => String.fromCharCode(one)).join(""));
  /** Strict RFC 4648 section 4: what has a second spelling is refused. */
  const unb64 = (text) => {
    let found;
    try { found = Uint8Array.from(atob(text), (one) => one.charCodeAt(0)); } catch { malformed("base64"); }
    return b64(found) === text ? found : malformed("base64");
  };

  const imported = new Map();
  const verifies = async (key, message, signature) => {
    const name = hex(key);
    if (!imported.has(name)) imported.set(name, await crypto.subtle.importKey("raw", key, { name: "Ed25519" }, false, ["verify"]).catch(() => null));
    const handle = imported.get(name);
    return handle !== null && signature.length === 64 && crypto.subtle.verify({ name: "Ed25519" }, handle, signature, message);
  };

  /** Whether this browser can do it at all: signatures of RFC 8032, test 1. */
  const unable = async () => {
    if (!globalThis.crypto?.subtle) return { en: "The browser offers WebCrypto on https pages and local files only; open this page that way, or use guantong verify.", zh: "浏览器仅在 https 页面或本地文件中提供 WebCrypto；请改用这种方式打开本页，或使用 guantong verify。" };
    const unhex = (text) => Uint8Array.from(text.match(/../g), (two) => parseInt(two, 16));
    const key = unhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
    const good = unhex("e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b");
    imported.clear();
    if (await verifies(key, new Uint8Array(), good).catch(() => false)) return null;
    return { en: "This browser's WebCrypto has no Ed25519; update it (Chrome 137, Firefox 129, Safari 17 or newer), or use guantong verify.", zh: "本浏览器的 WebCrypto 不支持 Ed25519；请更新浏览器（Chrome 137、Firefox 129、Safari 17 或更新版本），或使用 guantong verify。" };
  };

  // ---- canonical JSON

  const canonical = (value) => {
    if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
    if (value !== null && typeof value === "object") return `{${Object.keys(value).sort().map((name) => `${text(name)}:${canonical(value[name])}`).join(",")}}`;
    if (typeof value === "string") return text(value);
    const found = JSON.stringify(value);
    if (typeof value === "number" && /^-?\d+$/.test(found) && !Number.isSafeInteger(value)) malformed("a number beyond 2^53");
    return found;
  };
  const text = (value) => value.isWellFormed && !value.isWellFormed() ? malformed("a lone surrogate") : JSON.stringify(value);
  const canonicalBytes = (value) => utf8(canonical(value));
  const digest = (value) => digestOf(canonicalBytes(value));
  const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
  const hasMembers = (value, names) => isObject(value) && Object.keys(value).sort().join() === [...names].sort().join();
  const isEmpty = (value) => value === null || value === undefined || value === "" || (typeof value === "object" && !Object.keys(value).length);
  /** A paper: JSON in the one form it can have. A repeated member, or another order, reads back differently. */
  const parsed = (bytes, path) => {
    let value;
    try { value = JSON.parse(textOf(bytes)); } catch { value = undefined; }
    if (value === undefined || !same(canonicalBytes(value), bytes)) fail(`${path} is not canonical JSON`, `${path} 不是规范 JSON`);
    return value;
  };
  const whole = (value) => Number.isSafeInteger(value) && value >= 0;

  /** Nanoseconds since the epoch. */
  const instant = (value) => {
    const found = /^(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:[.,](\d{1,9})\d*)?\s*(Z|z|[+-]\d\d:?\d\d)?$/.exec(String(value).trim());
    const zone = !found?.[4] || /z/i.test(found[4]) ? "Z" : found[4].replace(/^(...):?/, "$1:");
    const ms = found ? Date.parse(`${found[1]}T${found[2]}${zone}`) : NaN;
    if (Number.isNaN(ms)) malformed("a time");
    return BigInt(ms) * 1000000n + BigInt((found[3] || "").padEnd(9, "0"));
  };
  const iso = (seconds) => new Date(Number(seconds) * 1000).toISOString().replace(".000Z", "Z");

  // ---- the container: a zip with one possible form, stored, sorted, no dates, no extra fields

  const CRC = Uint32Array.from({ length: 256 }, (_, n) => { for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1; return n; });
  const crc32 = (bytes) => {
    let crc = 0xffffffff;
    for (const byte of bytes) crc = CRC[(crc ^ byte) & 255] ^ (crc >>> 8);
    return (crc ^ 0xffffffff) >>> 0;
  };
  const PATH = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}(?:\/[A-Za-z0-9_][A-Za-z0-9._-]{0,127}){0,7}$/;
  const RESERVED = /^(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?$/i;
  const isPath = (path) => path.length <= 512 && PATH.test(path) && !path.split("/").some((part) => RESERVED.test(part) || part.endsWith("."));

  const otherForm = () => fail("the archive has another form than packages have", "文件结构与存证包不同");

  /** The files; anything but the form above is refused, to the last byte. */
  const readZip = (data) => {
    const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
    const files = new Map(), central = [];
    let at = 0, last = "";
    while (at + 4 <= data.length && view.getUint32(at, true) === 0x04034b50) {
      if (at + 30 > data.length) fail("the archive is cut off", "文件不完整");
      const size = view.getUint32(at + 18, true), nameSize = view.getUint16(at + 26, true), start = at + 30 + nameSize;
      if (start + size > data.length) fail("the archive is cut off", "文件不完整");
      const name = data.subarray(at + 30, start), path = String.fromCharCode(...name.subarray(0, 513)), content = data.subarray(start, start + size);
      const crc = crc32(content);
      if (!isPath(path) || path <= last) otherForm();
      if (view.getUint32(at + 14, true) !== crc) fail(`${path} was changed`, `${path} 已被改动`);
      const common = new DataView(new ArrayBuffer(26));
      common.setUint16(0, 20, true); common.setUint16(8, 0x21, true); common.setUint32(10, crc, true); common.setUint32(14, size, true);
      common.setUint32(18, size, true); common.setUint16(22, nameSize, true);
      const shared = new Uint8Array(common.buffer);
      if (!same(data.subarray(at + 4, at + 30), shared)) otherForm();
      const offset = new Uint8Array(14);
      new DataView(offset.buffer).setUint32(10, at, true);
      central.push(Uint8Array.of(0x50, 0x4b, 1, 2, 20, 0), shared, offset, name);
      files.set(path, content);
      last = path;
      at = start + size;
    }
    if (!files.size) fail("this is no package", "这不是存证包");
    if (new Set([...files.keys()].map((path) => path.toLowerCase())).size !== files.size || files.size > 65535) otherForm();
    const directory = join(...central), end = new Uint8Array(22), tail = new DataView(end.buffer);
    tail.setUint32(0, 0x06054b50, true); tail.setUint16(8, files.size, true); tail.setUint16(10, files.size, true);
    tail.setUint32(12, directory.length, true); tail.setUint32(16, at, true);
    if (!same(data.subarray(at), join(directory, end))) otherForm();
    return files;
  };

  // ---- signed notes, checkpoints, proofs, policies

  const SPACE = /[\s\u0085]/, NUMBER = /^(?:0|[1-9][0-9]{0,18})$/;
  const number = (value) => NUMBER.test(value) && BigInt(value) <= MAX_SIZE ? BigInt(value) : malformed("a number");
  const hash = (value) => { const found = unb64(value); return found.length === 32 ? found : malformed("a hash"); };
  const isKeyName = (name) => name !== "" && !SPACE.test(name) && !/[+\u0000-\u001f]/.test(name);

  const keyOf = async (name, kind, key) => ({ name, kind, key, id: hex((await sha256(join(utf8(`${name}\n`), Uint8Array.of(kind), key))).subarray(0, 4)) });
  const parseKey = async (value) => {
    const found = /^([^+]*)\+([^+]*)\+(.*)$/s.exec(value);
    const data = found && isKeyName(found[1]) ? unb64(found[3]) : malformed("a key");
    if (data.length !== 33 || ![LOG_KEY, WITNESS_KEY].includes(data[0])) malformed("a key of another type");
    const key = await keyOf(found[1], data[0], data.subarray(1));
    return key.id === found[2] ? key : malformed("the id of a key");
  };
  const keyName = (key) => `${key.name}+${key.id}+${key.kind}+${hex(key.key)}`;

  const parseNote = (bytes) => {
    const value = bytes.length > 1000000 ? malformed("a note that is too long") : textOf(bytes);
    const cut = value.lastIndexOf("\n\n");
    if (/[\u0000-\u0009\u000b-\u001f]/.test(value) || cut < 1 || !value.endsWith("\n")) malformed("a note");
    const lines = value.slice(cut + 2, -1).split("\n");
    if (lines.length > 100) malformed("too many signatures");
    return {
      text: value.slice(0, cut + 1),
      signatures: lines.map((line) => {
        const found = /^— ([^ ]*) (.*)$/s.exec(line);
        const data = found && isKeyName(found[1]) ? unb64(found[2]) : malformed("a signature line");
        return data.length < 5 ? malformed("a signature") : { name: found[1], id: hex(data.subarray(0, 4)), payload: data.subarray(4) };
      }),
    };
  };
  const badSignature = (who) => fail(`a signature of ${who} does not match`, `${who} 的签名不符`);

  /** Unknown keys are ignored, a bad signature of a known key or none known refuses the note. */
  const openNote = async (bytes, keys) => {
    const note = parseNote(bytes), known = new Map(keys.map((key) => [`${key.name} ${key.id}`, key]));
    const signers = new Set(), times = new Map();
    for (const { name, id, payload } of note.signatures) {
      const key = known.get(`${name} ${id}`);
      if (!key) continue;
      if (key.kind === LOG_KEY) {
        if (!(await verifies(key.key, utf8(note.text), payload))) badSignature(name);
      } else {
        const at = payload.length === 72 ? new DataView(payload.buffer, payload.byteOffset).getBigUint64(0) : badSignature(name);
        if (at > MAX_SIZE || !(await verifies(key.key, utf8(`cosignature/v1\ntime ${at}\n${note.text}`), payload.subarray(8)))) badSignature(name);
        if (!times.has(keyName(key)) || at < times.get(keyName(key)).at) times.set(keyName(key), { key, at });
      }
      signers.add(keyName(key));
    }
    return signers.size ? { note, signers, times } : badSignature("any known key");
  };
  const parseCheckpoint = (value) => {
    const lines = value.slice(0, -1).split("\n");
    if (!value.endsWith("\n") || lines.length < 3 || lines.some((line) => !line)) malformed("a checkpoint");
    return { origin: lines[0], size: number(lines[1]), root: hash(lines[2]) };
  };
  const parseProof = (bytes) => {
    const value = textOf(bytes), cut = value.indexOf("\n\n"), lines = value.slice(0, cut).split("\n");
    if (bytes.length > 1000000 || cut < 0 || lines.shift() !== "c2sp.org/tlog-proof@v1") malformed("a proof");
    if (lines[0]?.startsWith("extra ")) unb64(lines.shift().slice(6));
    if (!lines[0]?.startsWith("index ") || lines.length > 64) malformed("a proof");
    return { index: number(lines[0].slice(6)), path: lines.slice(1).map(hash), checkpoint: value.slice(cut + 2) };
  };

  const node = (left, right) => sha256(join(Uint8Array.of(1), left, right));
  /** RFC 9162, 2.1.3.2, over the hashes of RFC 6962, 2.1. */
  const isIncluded = async (leaf, index, size, path, root) => {
    if (index >= size) return false;
    let place = index, last = size - 1n, found = await sha256(join(Uint8Array.of(0), leaf));
    for (const item of path) {
      if (last === 0n) return false;
      if (place & 1n || place === last) {
        found = await node(item, found);
        while (!(place & 1n) && place !== 0n) { place >>= 1n; last >>= 1n; }
      } else found = await node(found, item);
      place >>= 1n;
      last >>= 1n;
    }
    return last === 0n && same(found, root);
  };

  /** A policy (tlog-policy), and the further lines of a trust file where ``other`` takes them. */
  const parsePolicy = async (value, other) => {
    const logs = new Map(), witnesses = new Map(), groups = new Map(), usedKeys = new Set(), usedMembers = new Set();
    let quorum = null;
    const keyFrom = async (word, kind) => {
      const key = await parseKey(word);
      if (key.kind !== kind || usedKeys.has(hex(key.key))) malformed("a key of the wrong kind, or twice");
      usedKeys.add(hex(key.key));
      return key;
    };
    const isKnown = (name) => witnesses.has(name) || groups.has(name);
    const fresh = (name) => name === "none" || isKnown(name) ? malformed(`the name ${name} is there twice`) : name;
    const lines = value.split("\n");
    if (lines.length > 4096) malformed("a policy that is too long");
    for (const line of lines) {
      const [kind, ...rest] = line.split(/[ \t]+/).filter(Boolean);
      if (kind === undefined || kind.startsWith("#")) continue;
      if (kind === "log" && [1, 2].includes(rest.length)) {
        const key = await keyFrom(rest[0], LOG_KEY);
        logs.set(key.name, [...(logs.get(key.name) || []), key]);
      } else if (kind === "witness" && [2, 3].includes(rest.length)) {
        const key = await keyFrom(rest[1], WITNESS_KEY);
        witnesses.set(fresh(rest[0]), key);
      } else if (kind === "group" && rest.length > 2) {
        const [name, wanted, ...members] = rest;
        if (members.some((member) => !isKnown(member) || usedMembers.has(member)) || new Set(members).size !== members.length) malformed(`the group ${name}`);
        const threshold = wanted === "any" ? 1n : wanted === "all" ? BigInt(members.length) : number(wanted);
        if (threshold < 1n || threshold > members.length) malformed(`the threshold of ${name}`);
        groups.set(fresh(name), { threshold, members });
        members.forEach((member) => usedMembers.add(member));
      } else if (kind === "quorum" && rest.length === 1) {
        if (quorum !== null || (rest[0] !== "none" && !isKnown(rest[0]))) malformed("the quorum");
        quorum = rest[0];
      } else if (!other?.(kind, rest)) malformed(`a policy has no line “${line.slice(0, 60)}”`);
    }
    if (quorum === null) malformed("there is no quorum line");
    const counts = (name, keys) => {
      if (name === "none") return true;
      if (witnesses.has(name)) return keys.has(keyName(witnesses.get(name)));
      const { threshold, members } = groups.get(name);
      return BigInt(members.filter((member) => counts(member, keys)).length) >= threshold;
    };
    return { logs, witnesses, isMet: (keys) => counts(quorum, keys) };
  };

  // ---- keys that changed: a statement signed by the old key, or confirmed by a known party where it is lost (guantong/base/keychange.py)

  const parseChange = async (document, path) => {
    const wrong = () => fail(`${path} is no good statement of a changed key`, `${path} 不是有效的密钥变更声明`);
    if (!isObject(document)) wrong();
    const { signatures, confirmations, ...core } = document;
    if (!hasMembers(core, ["v", "type", "did", "reason", "old", "new", "at"]) || core.v !== 1 || core.type !== "guantong-key-change" || !["lost", "rotated"].includes(core.reason)) wrong();
    const old = unb64(core.old), fresh = unb64(core.new), message = canonicalBytes(core), by = isObject(signatures) ? signatures : wrong();
    if (old.length !== 32 || fresh.length !== 32 || same(old, fresh) || !Array.isArray(confirmations) || confirmations.length > 64) wrong();
    if (!(await verifies(fresh, message, unb64(by.new))) || (core.reason === "rotated" && !(await verifies(old, message, unb64(by.old))))) wrong();
    return { did: String(core.did), reason: core.reason, old, fresh, at: instant(core.at), name: await digest(core), confirmations };
  };
  const isConfirmed = async ({ did, name, confirmations }, dids) => {
    for (const one of confirmations) {
      if (!isObject(one) || typeof one.by !== "string" || typeof one.at !== "string" || one.by === did) continue;
      const message = canonicalBytes({ v: 1, type: "guantong-key-confirmation", change: name, by: one.by, at: one.at });
      let value;
      try { value = unb64(one.signature); } catch { continue; }
      for (const key of dids.get(one.by) || []) if (await verifies(key, message, value)) return true;
    }
    return false;
  };
  /** The trust that follows the changes which lead on from its own keys; all others are left aside. One key changed for two is refused. */
  const withChanges = async (trust, changes) => {
    const held = new Map(trust.dids), retired = new Map(trust.retired), logs = new Map(trust.policy.logs), found = new Map();
    const holds = (did, key) => (held.get(did) || []).some((one) => same(one, key));
    let waiting = [...changes].sort((one, other) => (one.at < other.at ? -1 : one.at > other.at ? 1 : 0)), left = null;
    for (; left === null || left.length < waiting.length;) { // who knows the newest key only is led back from change to change
      [waiting, left] = [left || waiting, []];
      for (const change of waiting) {
        const { did, old, fresh, at, reason } = change, origin = `guantong/${did}`;
        if (!((reason === "rotated" && holds(did, old)) || holds(did, fresh) || (reason === "lost" && (await isConfirmed(change, trust.dids))))) { left.push(change); continue; }
        const place = `${did} ${hex(old)}`, before = found.get(place) || found.set(place, fresh).get(place);
        if (!same(before, fresh)) fail(`a key of ${did} was changed for two others`, `${did} 的一把密钥被变更为两把不同的密钥`);
        for (const key of [old, fresh]) {
          if (!holds(did, key)) held.set(did, [...(held.get(did) || []), key]);
          const known = logs.get(origin) || [], made = await keyOf(origin, LOG_KEY, key);
          if (!known.some((one) => keyName(one) === keyName(made))) logs.set(origin, [...known, made]);
        }
        retired.set(hex(old), at);
      }
    }
    return { ...trust, dids: held, retired, policy: { ...trust.policy, logs } };
  };

  const parseTrust = async (value) => {
    const dids = new Map(), others = new Set(), changes = [];
    const policy = await parsePolicy(value, (kind, fields) => {
      if (kind === "did") {
        const key = fields.length === 2 ? unb64(fields[1]) : malformed("a did line");
        if (!fields[0].startsWith("did:") || key.length !== 32) malformed("a did line");
        dids.set(fields[0], [...(dids.get(fields[0]) || []), key]);
      }
      if (kind === "key-change") changes.push(fields.length === 1 ? unb64(fields[0]) : malformed("a key-change line"));
      others.add(kind);
      return ["did", "authority", "contract", "block", "sm2", "key-change", "company", "company-root"].includes(kind); // most are for the command line
    });
    const read = await Promise.all(changes.map((bytes) => parseChange(parsed(bytes, "key-change"), "key-change")));
    return withChanges({ dids, policy, others, retired: new Map() }, read);
  };

  // ---- the checks, in the order and with the meaning of guantong/verify.py

  const CHECKS = {
    container: ["The file has the one form a package has", "文件结构唯一且完整"],
    manifest: ["The manifest's signature matches", "清单签名相符"],
    files: ["Every file is listed and is what the manifest says", "每个文件都在清单之中且与清单一致"],
    maker: ["The maker's key is one you trust", "出具方密钥在您的信任文件之中"],
    checkpoint: ["The checkpoint is signed by the maker's log", "检查点由出具方的日志签名"],
    witnesses: ["Enough witnesses cosigned the checkpoint", "会签检查点的见证方达到要求"],
    keys: ["No key is used after it was rotated or lost", "没有密钥在轮换或丢失之后仍被使用"],
    entries: ["Every entry lies in the log under the checkpoint", "每个条目都在检查点之下的日志中"],
    agreement: ["The agreement is the one the log recorded", "合约与日志记录一致"],
    receipts: ["Every receipt carries the signatures it claims", "每份回执的签名均属实"],
    invoices: ["Every invoice is in the log and signed", "每张账单均已记入日志并有签名"],
  };
  const NO_TRUST = { en: "no trust file was given", zh: "未提供信任文件" };
  const plain = (words) => ({ en: words, zh: words });
  const party = (value) => String(isObject(value) ? value.did : value);

  class Package {
    constructor(data, trust) {
      Object.assign(this, { data, trust, leaves: new Map(), states: new Map(), receiptCounts: {}, signers: new Set(), unknown: new Set(), cosigners: [], knownAt: null });
    }

    async container() {
      if (this.data.length > MAX_BYTES) otherForm();
      this.files = readZip(this.data);
    }

    async manifest() {
      if (!this.files.has("manifest.json")) fail("there is no manifest.json", "缺少 manifest.json");
      const found = parsed(this.files.get("manifest.json"), "manifest.json"), wrong = (what) => fail(`the manifest ${what}`, `清单有误（${what}）`);
      if (!isObject(found)) wrong("is no object");
      const { signature, scope = {}, ...rest } = found;
      if (!hasMembers(rest, ["v", "type", "maker", "agreementId", "madeAt", "key", "files"]) || !hasMembers(signature, ["alg", "value"])) wrong("has other members than it should");
      if (rest.v !== 1 || rest.type !== "guantong-package" || signature.alg !== "Ed25519") wrong("is of another kind or version");
      if (!isObject(scope) || Object.keys(scope).some((name) => !["transfer", "from", "to"].includes(name)) || ("scope" in found && isEmpty(scope))) wrong("has another scope than packages have");
      if (![rest.maker, rest.agreementId, rest.madeAt, rest.key, signature.value, ...Object.values(scope)].every((one) => typeof one === "string")) wrong("has a member that is not text");
      this.key = unb64(rest.key);
      delete found.signature;
      if (this.key.length !== 32 || !(await verifies(this.key, canonicalBytes(found), unb64(signature.value)))) fail("the manifest's signature does not match", "清单签名不符");
      if (!Array.isArray(rest.files) || rest.files.length > 100000) wrong("lists no files");
      this.listed = new Map();
      for (const item of rest.files) {
        if (!hasMembers(item, ["path", "size", "sha256"]) || typeof item.path !== "string" || this.listed.has(item.path) || item.path === "manifest.json"
          || !Number.isSafeInteger(item.size) || typeof item.sha256 !== "string" || !/^[0-9a-f]{64}$/.test(item.sha256)) wrong("lists a file wrongly");
        this.listed.set(item.path, item);
      }
      Object.assign(this, { maker: rest.maker, agreementId: rest.agreementId, madeAt: rest.madeAt, scope });
      return [true, plain(this.maker)];
    }

    async checkFiles() {
      for (const path of this.listed.keys()) if (!this.files.has(path)) fail(`${path} is missing`, `缺少 ${path}`);
      for (const [path, content] of this.files) {
        if (path === "manifest.json") continue;
        const item = this.listed.get(path) || fail(`${path} is not listed`, `${path} 不在清单之中`);
        if (content.length !== item.size || hex(await sha256(content)) !== item.sha256) fail(`${path} was changed`, `${path} 已被改动`);
      }
    }

    async checkMaker() {
      const changes = [];
      for (const [path, bytes] of this.files) if (path.startsWith("keys/")) changes.push(await parseChange(parsed(bytes, path), path));
      const own = { dids: new Map([[this.maker, [this.key]]]), policy: { logs: new Map() }, retired: new Map() };
      this.known = await withChanges(this.trust || own, changes);
      if (!this.trust) return [null, NO_TRUST];
      this.trust = this.known;
      const known = this.trust.dids.get(this.maker) || [];
      if (!known.some((key) => same(key, this.key))) fail(`the trust file does not list this key of ${this.maker}`, `信任文件中没有 ${this.maker} 的这把密钥`);
    }

    async checkpoint() {
      this.proofs = new Map([...this.files].filter(([path]) => path.endsWith(".tlog-proof")).map(([path, bytes]) => [path, parseProof(bytes)]));
      if (!this.proofs.size) fail("there is no entry in the package", "包内没有日志条目");
      const notes = new Set([...this.proofs.values()].map((proof) => proof.checkpoint));
      if (notes.size !== 1) fail("the entries are proven under different checkpoints", "各条目的证明所依据的检查点不一致");
      const origin = `guantong/${this.maker}`, own = await keyOf(origin, LOG_KEY, this.key);
      if (!this.files.has("policy.txt")) fail("there is no policy.txt", "缺少 policy.txt");
      const stated = await parsePolicy(textOf(this.files.get("policy.txt")));
      const logs = [...stated.logs.values()].flat();
      if (logs.length !== 1 || keyName(logs[0]) !== keyName(own)) fail("policy.txt names another log than the maker's", "policy.txt 所列日志不是出具方的日志");
      this.policy = this.trust ? this.trust.policy : stated;
      const keys = this.policy.logs.get(origin) || fail(`the trust file does not list the log ${origin}`, `信任文件中没有日志 ${origin}`);
      this.opened = await openNote(utf8([...notes][0]), [...keys, ...this.policy.witnesses.values()]);
      if (!keys.some((key) => this.opened.signers.has(keyName(key)))) badSignature(origin);
      this.head = parseCheckpoint(this.opened.note.text);
      if (this.head.origin !== origin) fail("the checkpoint is of another log", "检查点属于另一份日志");
      return [true, plain(`${origin}, ${this.head.size}`)];
    }

    async witnesses() {
      // nobody is a witness of its own log, whatever the trust file counts it for elsewhere
      const times = [...this.opened.times.values()].filter(({ key }) => key.name !== `guantong/witness/${this.maker}`);
      times.sort((one, other) => (one.at < other.at ? -1 : one.at > other.at ? 1 : one.key.name < other.key.name ? -1 : 1));
      const now = BigInt(Math.floor(Date.now() / 1000));
      if (times.some(({ at }) => at > now + AHEAD_S)) fail("a cosignature states a time that lies in the future", "会签所载时间在未来");
      this.cosigners = times.map(({ key, at }) => ({ witness: key.name, at: iso(at) }));
      const met = (count) => this.policy.isMet(new Set(times.slice(0, count).map(({ key }) => keyName(key))));
      if (!met(times.length)) fail("the quorum of the policy is not met", "会签的见证方数量未达到策略要求");
      for (let count = 1; count <= times.length && !this.knownAt; count++) if (met(count)) this.knownAt = iso(times[count - 1].at);
      const remark = this.cosigners.map(({ witness, at }) => `${witness} ${at}`).join(", ");
      if (!this.trust && remark) return [null, { en: `no trust file was given; unconfirmed: ${remark}`, zh: `未提供信任文件，以下未经确认：${remark}` }];
      return [true, remark ? plain(remark) : { en: "the policy asks for none", zh: "策略未要求见证" }];
    }

    /** A key that was rotated or lost counts for what was seen by others before that, and for nothing later. */
    async keyTimes() {
      const { retired } = this.known, signers = (this.policy.logs.get(this.head.origin) || []).filter((key) => this.opened.signers.has(keyName(key)));
      const ends = retired.has(hex(this.key)) ? [retired.get(hex(this.key))] : [];
      // while a rotation's overlap lasts both keys sign, and the later one decides
      if (signers.every(({ key }) => retired.has(hex(key)))) ends.push(signers.map(({ key }) => retired.get(hex(key))).reduce((one, other) => (other > one ? other : one)));
      if (!ends.length) return;
      const end = ends.reduce((one, other) => (other < one ? other : one)), at = iso(end / 1000000000n);
      if (instant(this.knownAt || this.madeAt) >= end) fail(`it is signed with a key that counts no more since ${at}`, `签名所用密钥自 ${at} 起已作废`);
      if (this.knownAt) return [true, { en: `the key was changed later, at ${at}`, zh: `密钥在此之后才变更（${at}）` }];
      return [null, { en: `the key counts no more since ${at}, and no witness says that this is older`, zh: `密钥自 ${at} 起作废，且没有见证方证明本包更早` }];
    }

    async entries() {
      const leaves = [...this.files.keys()].filter((path) => path.startsWith("log/") && path.endsWith(".json")).map((path) => path.slice(0, -5)).sort();
      if (leaves.join() !== [...this.proofs.keys()].map((path) => path.slice(0, -11)).sort().join()) fail("an entry lacks its proof, or a proof its entry", "有条目缺少证明，或有证明缺少条目");
      for (const [path, proof] of this.proofs) {
        const name = `log/${String(proof.index).padStart(12, "0")}`, data = this.files.get(`${name}.json`);
        if (path !== `${name}.tlog-proof`) fail(`${path} proves entry ${proof.index}`, `${path} 证明的是条目 ${proof.index}`);
        if (!(await isIncluded(data, proof.index, this.head.size, proof.path, this.head.root))) fail(`${name}.json does not lie in the log`, `${name}.json 不在日志之中`);
        const leaf = parsed(data, `${name}.json`);
        if (leaf.participant !== this.maker) fail(`${name}.json is no entry of the maker's log`, `${name}.json 不是出具方日志的条目`);
        const body = leaf.body, about = [body.agreementId, body.agreement, isObject(body.record) ? body.record.agreementId : null];
        if (!about.includes(this.agreementId)) fail(`${name}.json is about another agreement`, `${name}.json 属于另一份合约`);
        if (!this.isInScope(leaf)) fail(`${name}.json lies outside what the package is about`, `${name}.json 不在本包所述范围之内`);
        this.leaves.set(proof.index, leaf);
      }
      return [true, plain(String(this.leaves.size))];
    }

    isInScope(leaf) {
      if (leaf.kind === "exchange.agreement-made") return true;
      const at = instant(leaf.at), transfer = isObject(leaf.body.record) ? leaf.body.record.transferProcessId ?? null : null;
      return !(("transfer" in this.scope && transfer !== null && transfer !== this.scope.transfer)
        || ("from" in this.scope && at < instant(this.scope.from)) || ("to" in this.scope && at >= instant(this.scope.to)));
    }

    leavesOf(kind) { return [...this.leaves.values()].filter((leaf) => leaf.kind === kind); }

    paper(path, members) {
      const found = parsed(this.files.get(path) || fail(`there is no ${path}`, `缺少 ${path}`), path);
      return hasMembers(found, members) ? found : fail(`${path} has other members than it should`, `${path} 的成员与应有的不同`);
    }

    papers(folder, members) {
      return [...this.files.keys()].filter((path) => path.startsWith(folder)).map((path) => [path, this.paper(path, members)]);
    }

    async agreement() {
      const paper = this.paper("agreement.json", ["agreement", "price", "terms"]), document = paper.agreement;
      if (document["@id"] !== this.agreementId) fail("agreement.json is another agreement", "agreement.json 是另一份合约");
      this.parties = new Set([String(document.assigner), String(document.assignee)]);
      if (!this.parties.has(this.maker)) fail("the maker is not a party of the agreement", "出具方不是合约的当事方");
      const made = await digest(document);
      if (!this.leavesOf("exchange.agreement-made").some((leaf) => leaf.body.agreementHash === made)) fail("the log records no such agreement", "日志中没有这份合约的记录");
      const remarks = [...this.parties].sort(), bound = (value, term, found = new Set()) => {
        if (isObject(value) && value.leftOperand === term && ["eq", "odrl:eq"].includes(value.operator) && typeof value.rightOperand === "string") found.add(value.rightOperand);
        if (value !== null && typeof value === "object") Object.values(value).forEach((inner) => bound(inner, term, found));
        return found;
      };
      const zh = [...remarks];
      for (const [member, term, name] of [["price", PRICE, "价格方案"], ["terms", TERMS, "条款"]]) {
        const digests = bound(document, term);
        if (!isEmpty(paper[member]) && !digests.has(await digest(paper[member]))) fail(`the ${member} is not the one bound into the agreement`, `${name}与合约所绑定的不一致`);
        if (isEmpty(paper[member]) && digests.size) { remarks.push(`${member}: only the digest is known`); zh.push(`${name}：仅知其摘要`); }
      }
      return [true, { en: remarks.join(", "), zh: zh.join("、") }];
    }

    /** The evidence keys of a party; with an instant, those that counted then. */
    keysOf(did, at = null) {
      const ends = this.known.retired, found = (this.known.dids.get(did) || []).filter((key) => at === null || !ends.has(hex(key)) || at < ends.get(hex(key)));
      return found.length || !this.trust ? found : fail(`the trust file does not list ${did}`, `信任文件中没有 ${did}`);
    }

    async signature(path, did, value, signature, at = null) {
      const bytes = unb64(signature), keys = this.keysOf(did, at), message = canonicalBytes(value);
      if (!keys.length) return this.unknown.add(did);
      for (const key of keys) if (await verifies(key, message, bytes)) return this.signers.add(did);
      return fail(`the signature of ${did} in ${path} does not match`, `${path} 中 ${did} 的签名不符`);
    }

    async receipts() {
      const logged = new Map(this.leavesOf("exchange.usage-recorded").map(({ body }) => [body.recordHash, body.signature])), there = new Set();
      for (const [path, paper] of this.papers("receipts/", ["record", "signature", "countersignature", "state"])) {
        const { record } = paper, recordHash = await digest(record);
        if (record.agreementId !== this.agreementId) fail(`${path} is about another agreement`, `${path} 属于另一份合约`);
        if (!logged.has(recordHash) || logged.get(recordHash) !== paper.signature) fail(`${path} is not in the log`, `${path} 没有记入日志`);
        if (this.states.has(String(record.recordId))) fail(`${path} is there twice`, `${path} 出现了两次`);
        const state = await this.receiptState(path, paper, recordHash);
        this.states.set(String(record.recordId), state);
        this.receiptCounts[state] = (this.receiptCounts[state] || 0) + 1;
        there.add(recordHash);
      }
      const left = [...logged.keys()].filter((one) => !there.has(one)).length;
      if (left) fail(`${left} usage records of the log have no receipt in the package`, `日志中有 ${left} 份用量记录在包内没有回执`);
      return this.signed(Object.entries(this.receiptCounts).sort().map(([state, count]) => `${count} ${state}`).join(", "));
    }

    signed(remark) {
      const names = [...this.unknown].sort().join(", ");
      return names ? [null, { en: `no key known for ${names}`, zh: `没有 ${names} 的密钥` }] : [true, plain(remark)];
    }

    /** What the signatures of a receipt really show. */
    async receiptState(path, { record, signature, countersignature: answer, state }, recordHash) {
      const provider = party(record.provider), consumer = party(record.consumer);
      if (provider === consumer || !this.parties.has(provider) || !this.parties.has(consumer)) fail(`${path} names other parties than the agreement`, `${path} 的当事方与合约不同`);
      if (!hasMembers(record, RECORD) || record.v !== 1 || record.type !== "usage" || !["seq", "rows", "bytes", "chunkCount", "blockBytes"].every((name) => whole(record[name]))) fail(`${path} is no usage record of version 1`, `${path} 不是第 1 版用量记录`);
      const end = instant(record.to);
      if (isEmpty(answer)) {
        const oneSided = state === "one-sided";
        await this.signature(path, oneSided ? this.maker : provider, record, signature, end);
        return oneSided ? "one-sided" : "offered";
      }
      const { statement } = answer;
      const at = instant(statement.at);
      if (statement.record !== recordHash || statement.providerSig !== (await digestOf(unb64(signature)))) fail(`the countersignature in ${path} belongs to another record`, `${path} 中的回签属于另一份记录`);
      await this.signature(path, provider, record, signature, end);
      await this.signature(path, consumer, statement, answer.signature, at);
      if (this.keysOf(provider, end).length && this.keysOf(consumer, at).length) {
        if (canonical(statement.consumer) !== canonical(record.consumer) || !["accept", "dispute"].includes(statement.verdict)) fail(`${path}: the statement is by another consumer or has no verdict`, `${path}：回签声明由他人作出或没有结论`);
        if (statement.verdict === "accept" && !["rows", "bytes", "contentRoot"].every((name) => isObject(statement.counted) && statement.counted[name] === record[name])) fail(`${path}: the consumer accepted what it did not count`, `${path}：使用方认可的数量与其计数不符`);
      }
      return statement.verdict === "accept" ? "acknowledged" : "disputed";
    }

    async invoices() {
      const found = this.papers("invoices/", ["document", "signatures"]), logged = new Set([...this.leaves.values()].map((leaf) => leaf.body.invoice));
      for (const [path, { document, signatures }] of found) {
        if (!logged.has(await digest(document))) fail(`${path} is not in the log`, `${path} 没有记入日志`);
        const by = new Set();
        for (const one of signatures) {
          if (!hasMembers(one, ["by", "key", "algorithm", "value"]) || one.algorithm !== "Ed25519" || one.key !== `${one.by}#evidence`) fail(`${path} has a signature of another form`, `${path} 的签名格式不同`);
          if (!this.parties.has(one.by) || by.has(one.by)) fail(`${path} is signed by somebody who is no party, or twice by one`, `${path} 由非当事方签名，或同一方签了两次`);
          await this.signature(path, one.by, document, one.value);
          by.add(one.by);
        }
        if (!by.size) fail(`${path} is not signed`, `${path} 没有签名`);
      }
      this.invoiceCount = found.length;
      return this.signed(String(found.length));
    }

    /** What is in the package and is not judged here. */
    leftOut() {
      const paths = this.files ? [...this.files.keys()] : [], has = (folder) => paths.some((path) => path.startsWith(folder)), found = [];
      if (has("anchors/")) found.push({ en: "Time stamps and anchors on a chain are in the package, but only guantong verify checks them; nothing is claimed from them here.", zh: "包内有时间戳或链上锚定，仅 guantong verify 能核验；本页不据此作任何结论。" });
      if (this.invoiceCount) found.push({ en: "Whether the amounts of the invoices follow from price plan and receipts: guantong verify computes them again.", zh: "账单金额是否可由价格方案和回执算出：由 guantong verify 重新计算。" });
      if (this.trust?.others.has("sm2") || [...this.leaves.values()].some((leaf) => "sm3" in leaf)) found.push({ en: "SM2 signatures and SM3 digests; browsers do not have them.", zh: "SM2 签名与 SM3 摘要；浏览器不具备这些算法。" });
      if (has("disputes/") || has("credit-notes/")) found.push({ en: "The content of disputes and credit notes; they are unchanged since the maker packed them, and guantong verify derives them again.", zh: "争议与红字账单的内容；自出具方打包以来未被改动，由 guantong verify 重新推算。" });
      if (has("company/") || this.trust?.others.has("company")) found.push({ en: "Company certificates (X.509).", zh: "单位证书（X.509）。" });
      return found;
    }
  }

  const STEPS = [["container", "container"], ["manifest", "manifest"], ["files", "checkFiles"], ["maker", "checkMaker"], ["checkpoint", "checkpoint"], ["witnesses", "witnesses"],
    ["keys", "keyTimes"], ["entries", "entries"], ["agreement", "agreement"], ["receipts", "receipts"], ["invoices", "invoices"]];
  const LIMITS = [
    { en: "that the sensor told the truth", zh: "传感器如实反映了实际情况" },
    { en: "that the record is complete, if the meter was bypassed", zh: "计量未被绕过、记录没有缺漏" },
    { en: "that a party deleted data it says it deleted", zh: "某一方确已删除其声称删除的数据" },
  ];
  const VERDICTS = {
    ok: ["ok: this package verifies", "通过：存证包核验无误"],
    "signer-unknown": ["consistent, signer unknown: nothing in it was changed, but who signed it is not confirmed; give a trust file", "内容一致，签名者身份未知：包内没有改动，但无法确认是谁签的；请提供信任文件"],
    "not-ok": ["not ok: do not rely on this package", "未通过：请勿采信该存证包"],
    unreadable: ["no verdict", "没有结论"],
  };

  const proven = (found) => {
    const part = Object.entries(found.scope).map(([name, value]) => `${name} ${value}`).join(", "), { acknowledged = 0, offered = 0, disputed = 0 } = found.receiptCounts;
    const single = offered + (found.receiptCounts["one-sided"] || 0), names = found.cosigners.map(({ witness }) => witness).join(", ");
    return [
      { en: `${found.maker} recorded ${found.leaves.size} entries about agreement ${found.agreementId}; none was changed since`, zh: `${found.maker} 就合约 ${found.agreementId} 记录了 ${found.leaves.size} 个条目，此后均未改动` },
      found.knownAt && { en: `they existed at the latest at ${found.knownAt}, say ${names}`, zh: `最迟在 ${found.knownAt} 已经存在，见证方：${names}` },
      part && { en: `this is a part of the agreement's records only: ${part}`, zh: `本包只含该合约的一部分记录：${part}` },
      acknowledged && { en: `${acknowledged} usage records were signed by both sides`, zh: `${acknowledged} 份用量记录由双方签名` },
      single && { en: `${single} usage records were signed by one side only`, zh: `${single} 份用量记录仅由一方签名` },
      disputed && { en: `${disputed} usage records are disputed by the consumer`, zh: `${disputed} 份用量记录被使用方提出异议` },
    ].filter(Boolean);
  };

  /** The report on a package: bytes, and the text of a trust file or an empty one. Never throws for what is in them. */
  const verifyPackage = async (data, trustText) => {
    const nothing = (reason) => ({ verdict: "unreadable", checks: [], proven: [], leftOut: [], reason });
    const missing = await unable();
    if (missing) return nothing(missing);
    let trust = null;
    try {
      if (trustText.trim()) trust = await parseTrust(trustText.replaceAll("\r\n", "\n"));
    } catch (error) {
      return nothing({ en: `The trust file can't be read: ${error.message}`, zh: `信任文件无法读取：${error.words?.zh || error.message}` });
    }
    const found = new Package(data, trust), checks = [];
    for (const [name, method] of STEPS) {
      let ok = true, reason = { en: "", zh: "" };
      try {
        [ok, reason] = (await found[method]()) || [ok, reason];
      } catch (error) {
        [ok, reason] = [false, error.words || plain(error.message)];
      }
      checks.push({ name, ok, reason });
      if (ok === false && !["maker", "witnesses"].includes(name)) break; // what comes later rests on what came before
    }
    const verdict = checks.some(({ ok }) => ok === false) ? "not-ok" : trust && checks.every(({ ok }) => ok) ? "ok" : "signer-unknown";
    return { verdict, checks, reason: null, leftOut: verdict === "not-ok" ? [] : found.leftOut(), proven: verdict === "ok" ? proven(found) : [], receipts: found.receiptCounts, knownAt: found.knownAt };
  };

  // ---- the page

  const element = (name, children, attributes = {}) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  };
  const words = ({ en, zh }) => [element("span", [en], { lang: "en" }), " ", element("span", [zh], { lang: "zh-CN" })];
  const list = (title, items) => (items.length ? [element("h3", words(title)), element("ul", items.map((item) => element("li", words(item))))] : []);

  const show = (report) => {
    const [en, zh] = VERDICTS[report.verdict], lines = report.checks.map(({ name, ok, reason }) => element("li", [{ true: "✓", false: "✗", null: "?" }[ok], " ", ...words({
      en: CHECKS[name][0] + (reason.en && `: ${reason.en}`), zh: CHECKS[name][1] + (reason.zh && `：${reason.zh}`),
    })], { "data-check": name, "data-ok": String(ok) }));
    document.getElementById("result").replaceChildren(
      element("h2", words({ en, zh }), { id: "verdict", "data-verdict": report.verdict }),
      ...(report.reason ? [element("p", words(report.reason))] : []),
      element("ul", lines, { id: "checks" }),
      ...list({ en: "Proven", zh: "已证明" }, report.proven),
      ...list({ en: "Not checked here", zh: "本页未核验" }, report.leftOut),
      ...list({ en: "Not proven", zh: "不能证明" }, LIMITS),
    );
  };

  const choose = (language) => {
    document.documentElement.lang = language;
    document.title = language === "en" ? "Verify an evidence package · guantong" : "核验存证包 · 贯通";
  };

  const begin = () => {
    const style = new CSSStyleSheet(), at = (id) => document.getElementById(id);
    style.replaceSync(`:root{font:1rem/1.6 system-ui,"Noto Sans","Noto Sans CJK SC","PingFang SC","Microsoft YaHei",sans-serif}
      body{max-width:46rem;margin:0 auto;padding:1rem;overflow-wrap:anywhere} label{display:block;font-weight:600} textarea{width:100%;box-sizing:border-box;font-family:ui-monospace,monospace}
      button{font:inherit;padding:.3rem .9rem} #checks{list-style:none;padding:0} .hint,footer{font-size:.9rem} :focus-visible{outline:3px solid #1f5fd0}
      [data-verdict=ok]{color:light-dark(#0f7b4f,#4cc38a)} [data-verdict=not-ok],[data-ok=false]{color:light-dark(#b3261e,#ff8a80)}
      html:lang(en) body [lang|=zh]:not(button),html:lang(zh) body [lang|=en]:not(button){display:none}`);
    document.adoptedStyleSheets = [style];
    const wanted = new URLSearchParams(location.search).get("lang") || navigator.language;
    choose(wanted.startsWith("zh") ? "zh-CN" : "en");
    at("to-en").addEventListener("click", () => choose("en"));
    at("to-zh").addEventListener("click", () => choose("zh-CN"));
    at("keys").addEventListener("change", async () => {
      const [file] = at("keys").files;
      if (file && file.size < 4000000) at("trust").value = await file.text();
    });
    at("form").addEventListener("submit", async (event) => {
      event.preventDefault();
      const [file] = at("package").files;
      at("go").disabled = true;
      at("result").replaceChildren(element("p", words({ en: "Verifying …", zh: "正在核验……" })));
      try {
        if (file.size > MAX_BYTES) show({ verdict: "unreadable", checks: [], proven: [], leftOut: [], reason: { en: "The file is too large.", zh: "文件过大。" } });
        else show(await verifyPackage(new Uint8Array(await file.arrayBuffer()), at("trust").value));
      } catch (error) {
        show({ verdict: "unreadable", checks: [], proven: [], leftOut: [], reason: { en: `The file can't be read: ${error.message}`, zh: `文件无法读取：${error.message}` } });
      }
      at("go").disabled = false;
    });
  };
  begin();
})();

// The guest's page. The key is made here and never leaves this browser unencrypted; each statement is signed here, and the node verifies it.
// Formats: src/guantong/base/guest.py. Nothing is loaded from elsewhere, nothing is evaluated.
"use strict";
(() => {
  const WORDS = JSON.parse(document.getElementById("words").textContent);
  const API = "/guantong/guests/";
  const CHUNK = 65536, ROUNDS = 600000;
  const utf8 = new TextEncoder();
  const view = document.getElementById("view");
  let code = location.hash.slice(1), about = null, held = null, state = null;

  const say = (name, facts = {}) => (WORDS[name] || name).replace(/\{(\w+)\}/g, (_, key) => facts[key] ?? "–");
  const b64 = (bytes) => { let text = ""; for (const byte of new Uint8Array(bytes)) text += String.fromCharCode(byte); return btoa(text); };
  const unb64 = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const b64url = (bytes) => b64(bytes).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  const hex = (bytes) => [...new Uint8Array(bytes)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  const sha = async (bytes) => new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  const joined = (...parts) => {
    const found = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of parts) { found.set(part, at); at += part.length; }
    return found;
  };

  // RFC 8785 for what statements hold: objects with ASCII names, texts, whole numbers
  const canonical = (value) => {
    if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
    if (value && typeof value === "object") return `{${Object.keys(value).sort().map((key) => `${JSON.stringify(key)}:${canonical(value[key])}`).join(",")}}`;
    return JSON.stringify(value);
  };
  const digest = async (value) => `sha256:${hex(await sha(utf8.encode(canonical(value))))}`;

  // RFC 6962, 2.1, over pieces of the file
  async function rootOf(bytes) {
    let level = [];
    for (let at = 0; at < bytes.length; at += CHUNK) level.push(await sha(joined(new Uint8Array([0]), bytes.subarray(at, at + CHUNK))));
    while (level.length > 1) {
      const above = [];
      for (let at = 0; at + 1 < level.length; at += 2) above.push(await sha(joined(new Uint8Array([1]), level[at], level[at + 1])));
      if (level.length % 2) above.push(level[level.length - 1]);
      level = above;
    }
    return `sha256:${hex(level[0])}`;
  }

  // ---- the key

  const store = () => new Promise((resolve, reject) => {
    const asked = indexedDB.open("guantong-guest", 1);
    asked.onupgradeneeded = () => asked.result.createObjectStore("keys", { keyPath: "host" });
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => reject(asked.error);
  });
  const inStore = async (mode, act) => {
    const base = await store();
    try {
      return await new Promise((resolve, reject) => {
        const deal = base.transaction("keys", mode), asked = act(deal.objectStore("keys"));
        deal.oncomplete = () => resolve(asked.result);
        deal.onerror = deal.onabort = () => reject(deal.error);
      });
    } finally { base.close(); }
  };
  const remember = (row) => inStore("readwrite", (keys) => keys.put(row));

  const BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
  function didOf(raw) {
    let number = 0n, text = "";
    for (const byte of raw) number = number * 256n + BigInt(byte);
    for (; number; number /= 58n) text = BASE58[Number(number % 58n)] + text;
    return `did:key:z${text}`;
  }
  const P256 = { name: "ECDSA", namedCurve: "P-256" };
  const algorithm = (kind) => (kind === "Ed25519" ? { name: "Ed25519" } : P256);

  async function madeKey() {
    let kind = "Ed25519", pair;
    try { pair = await crypto.subtle.generateKey({ name: "Ed25519" }, true, ["sign", "verify"]); }
    catch { kind = "P-256"; pair = await crypto.subtle.generateKey(P256, true, ["sign", "verify"]); }
    const raw = new Uint8Array(await crypto.subtle.exportKey("raw", pair.publicKey));
    const did = kind === "Ed25519" ? didOf(joined(new Uint8Array([0xed, 0x01]), raw))
      : didOf(joined(new Uint8Array([0x80, 0x24, raw[64] & 1 ? 3 : 2]), raw.subarray(1, 33)));
    return { kind, did, pkcs8: new Uint8Array(await crypto.subtle.exportKey("pkcs8", pair.privateKey)) };
  }
  // not extractable: a script that got into this page could use the key while it is open, but not carry it away
  const signingKey = (pkcs8, kind) => crypto.subtle.importKey("pkcs8", pkcs8, algorithm(kind), false, ["sign"]);

  async function fromPassphrase(passphrase, salt, rounds) {
    const base = await crypto.subtle.importKey("raw", utf8.encode(passphrase), "PBKDF2", false, ["deriveKey"]);
    return crypto.subtle.deriveKey({ name: "PBKDF2", hash: "SHA-256", salt, iterations: rounds }, base, { name: "AES-GCM", length: 256 }, false, ["encrypt", "decrypt"]);
  }
  async function sealed(made, passphrase) {
    const salt = crypto.getRandomValues(new Uint8Array(16)), iv = crypto.getRandomValues(new Uint8Array(12));
    const key = await fromPassphrase(passphrase, salt, ROUNDS);
    const data = await crypto.subtle.encrypt({ name: "AES-GCM", iv, additionalData: utf8.encode(made.did) }, key, made.pkcs8);
    return { guest: made.did, kind: made.kind, kdf: "PBKDF2-HMAC-SHA-256", iterations: ROUNDS, salt: b64(salt), cipher: "AES-256-GCM", iv: b64(iv), sealed: b64(data) };
  }
  async function opened(file, passphrase) {
    const key = await fromPassphrase(passphrase, unb64(file.salt), Math.min(Number(file.iterations), 10000000));
    try {
      return new Uint8Array(await crypto.subtle.decrypt({ name: "AES-GCM", iv: unb64(file.iv), additionalData: utf8.encode(file.guest) }, key, unb64(file.sealed)));
    } catch { throw new Error(say("wrong-passphrase")); }
  }

  // ---- passkey: WebAuthn Level 3, PRF extension. The key is stored only under what the passkey gives back.

  const hasPasskeys = () => typeof PublicKeyCredential === "function" && !/^[\d.]+$|:/.test(location.hostname);
  const prfKey = (first) => crypto.subtle.importKey("raw", first, "HKDF", false, ["deriveKey"]).then((base) =>
    crypto.subtle.deriveKey({ name: "HKDF", hash: "SHA-256", salt: new Uint8Array(32), info: utf8.encode("guantong-guest key") }, base, { name: "AES-GCM", length: 256 }, false, ["encrypt", "decrypt"]));
  async function askPasskey(id, salt) {
    const found = await navigator.credentials.get({ publicKey: { challenge: crypto.getRandomValues(new Uint8Array(32)), allowCredentials: [{ type: "public-key", id }], userVerification: "required", extensions: { prf: { eval: { first: salt } } } } });
    return found.getClientExtensionResults().prf?.results?.first;
  }
  async function underPasskey(made, name) {
    const salt = crypto.getRandomValues(new Uint8Array(32));
    const found = await navigator.credentials.create({ publicKey: {
      challenge: crypto.getRandomValues(new Uint8Array(32)), rp: { name: "guantong" },
      user: { id: crypto.getRandomValues(new Uint8Array(16)), name, displayName: name },
      pubKeyCredParams: [{ type: "public-key", alg: -7 }, { type: "public-key", alg: -257 }],
      authenticatorSelection: { residentKey: "preferred", userVerification: "required" }, extensions: { prf: { eval: { first: salt } } } } });
    const told = found.getClientExtensionResults().prf;
    if (!told?.enabled) return null;
    const id = new Uint8Array(found.rawId), first = told.results?.first || await askPasskey(id, salt);
    if (!first) return null;
    const iv = crypto.getRandomValues(new Uint8Array(12));
    return { id, salt, iv, sealed: new Uint8Array(await crypto.subtle.encrypt({ name: "AES-GCM", iv }, await prfKey(first), made.pkcs8)) };
  }
  async function privateKey() {
    if (held.key) return held.key;
    if (!held.unlocked) {
      const first = await askPasskey(held.passkey.id, held.passkey.salt);
      if (!first) throw new Error(say("passkey-failed"));
      const pkcs8 = await crypto.subtle.decrypt({ name: "AES-GCM", iv: held.passkey.iv }, await prfKey(first), held.passkey.sealed);
      held.unlocked = await signingKey(pkcs8, held.kind); // for as long as this page is open
    }
    return held.unlocked;
  }
  const sign = async (bytes) => new Uint8Array(await crypto.subtle.sign(held.kind === "Ed25519" ? { name: "Ed25519" } : { name: "ECDSA", hash: "SHA-256" }, await privateKey(), bytes));

  // ---- asking the node

  async function answered(response) {
    let body = {};
    try { body = await response.json(); } catch { /* said below by its status */ }
    if (!response.ok) throw new Error(`${body.title || response.status} ${body.detail || ""}`.trim());
    return body;
  }
  async function ask(what) {
    const question = utf8.encode(canonical({ v: 1, type: "guantong-guest-read", guest: held.did, host: held.host, at: new Date().toISOString() }));
    return answered(await fetch(API + what, { headers: { authorization: `Guest ${held.did} ${b64url(question)}.${b64url(await sign(question))}` } }));
  }
  async function make(kind, more, file, link) {
    const statement = { v: 1, type: `guantong-guest-${kind}`, guest: held.did, host: held.host, number: state ? state.number : 0, previous: state ? state.head : "", at: new Date().toISOString(), ...more };
    const envelope = utf8.encode(canonical({ statement, signature: b64(await sign(utf8.encode(canonical(statement)))) }));
    const headers = { "content-type": "application/octet-stream", ...(link ? { "guantong-invitation": link } : {}) };
    state = await answered(await fetch(`${API}statements`, { method: "POST", headers, body: new Blob(file ? [envelope, "\n", file] : [envelope, "\n"]) }));
    held.last = { number: statement.number + 1, head: await digest(statement) };
    await kept();
  }
  const kept = () => remember({ host: held.host, did: held.did, kind: held.kind, key: held.key || null, passkey: held.passkey || null, file: held.file, last: held.last });

  // ---- what is shown

  const make_element = (name, facts = {}, ...inside) => {
    const found = document.createElement(name);
    for (const [key, value] of Object.entries(facts)) {
      if (key.startsWith("on")) found.addEventListener(key.slice(2), value);
      else if (value === true) found.setAttribute(key, "");
      else if (value !== false && value != null) found.setAttribute(key, value);
    }
    found.append(...inside.filter((one) => one != null));
    return found;
  };
  const el = make_element;
  const field = (label, input) => el("label", {}, label, input);
  const facts = (...pairs) => el("dl", { class: "facts" }, ...pairs.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
  const told = (text) => { document.getElementById("told").textContent = text; };
  const failed = (error) => {
    const place = document.getElementById("problem");
    place.textContent = error ? String(error.message || error) : "";
    place.hidden = !error;
    if (error) place.scrollIntoView({ block: "nearest" });
  };
  const acting = (act) => async (event) => {
    event.preventDefault();
    const button = event.submitter || event.currentTarget;
    failed(null);
    button.disabled = true;
    try { await act(event); } catch (error) { failed(error); } finally { button.disabled = false; }
  };
  const when = (text) => (text ? new Date(text).toLocaleString(document.documentElement.lang) : "–");
  const size = (count) => new Intl.NumberFormat(document.documentElement.lang).format(count);
  const save = (name, value) => {
    const link = el("a", { href: URL.createObjectURL(new Blob([JSON.stringify(value)], { type: "application/json" })), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };

  function showKey() {
    const place = document.getElementById("about-key");
    place.hidden = !held;
    if (!held) return;
    document.getElementById("did").textContent = held.did;
    document.getElementById("key-words").textContent = say(held.passkey ? "key-passkey" : "key-browser", { kind: held.kind });
    place.querySelectorAll("button").forEach((one) => one.remove());
    place.append(el("button", { class: "btn quiet", id: "save-key", onclick: () => save("guantong-key.json", held.file) }, say("save-key")));
  }

  function showInvitation() {
    const name = el("input", { name: "name", required: true, maxlength: 200, autocomplete: "organization", value: about.name || "" });
    const first = el("input", { name: "passphrase", type: "password", required: true, minlength: 10, autocomplete: "new-password" });
    const second = el("input", { name: "again", type: "password", required: true, minlength: 10, autocomplete: "new-password" });
    const passkey = el("input", { name: "passkey", type: "checkbox", disabled: !hasPasskeys() });
    const form = el("form", { id: "join", onsubmit: acting(async () => {
      if (first.value !== second.value) throw new Error(say("not-alike"));
      told(say("making-key"));
      const made = await madeKey();
      held = { host: about.host, did: made.did, kind: made.kind, file: await sealed(made, first.value), last: { number: 0, head: "" } };
      if (passkey.checked) held.passkey = await underPasskey(made, name.value);
      if (!held.passkey) held.key = await signingKey(made.pkcs8, made.kind);
      const without = passkey.checked && !held.passkey;
      made.pkcs8.fill(0);
      state = null;
      await kept(); // before the link is used up: it works once
      try { await make("join", { invitation: about.invitation, name: name.value }, null, code); }
      catch (error) { await inStore("readwrite", (keys) => keys.delete(held.host)); held = null; throw error; }
      finally { told(""); }
      history.replaceState(null, "", location.pathname + location.search);
      code = "";
      save("guantong-key.json", held.file);
      show();
      told(say("joined") + (without ? ` ${say("passkey-none")}` : ""));
    }) },
      el("h2", {}, say("join-title", { host: about.hostName })), el("p", {}, say("join-words", { host: about.hostName })),
      facts([say("purpose"), about.purpose], [say("terms"), about.terms]),
      el("div", { class: "fields" }, field(say("your-name"), name), field(say("passphrase"), first), field(say("again"), second)),
      el("p", { class: "hint" }, say("passphrase-words")),
      el("p", {}, el("label", { class: "check" }, passkey, say("use-passkey"))), el("p", { class: "hint" }, say(hasPasskeys() ? "passkey-words" : "passkey-not-here")),
      el("button", { class: "btn" }, say("join")));
    view.replaceChildren(el("section", { class: "sheet" }, form));
  }

  function showNothing() {
    const file = el("input", { type: "file", accept: ".json,application/json", required: true, id: "key-file" });
    const passphrase = el("input", { type: "password", required: true, autocomplete: "current-password" });
    view.replaceChildren(el("section", { class: "sheet" }, el("h2", {}, say("no-key-title")), el("p", {}, say("no-key-words")),
      el("form", { id: "restore", onsubmit: acting(async () => {
        const given = JSON.parse(await file.files[0].text());
        const one = given.key || given;
        held = { host: about ? about.host : given.host || WORDS["host-did"], did: one.guest, kind: one.kind, file: one, last: { number: 0, head: "" } };
        held.key = await signingKey(await opened(one, passphrase.value), one.kind);
        try { state = await ask("state"); } catch (error) { held = null; throw error; }
        await kept();
        show();
      }) }, el("div", { class: "fields" }, field(say("key-file"), file), field(say("passphrase"), passphrase)), el("button", { class: "btn" }, say("restore")))));
  }

  async function chosen(file, place) {
    failed(null);
    place.replaceChildren();
    if (!file) return;
    if (file.size > state.fileBytes) throw new Error(say("too-large", { n: size(state.fileBytes) }));
    if (!file.size) throw new Error(say("empty-file"));
    told(say("hashing"));
    const bytes = new Uint8Array(await file.arrayBuffer());
    const named = { name: file.name.slice(0, 255), size: bytes.length, sha256: `sha256:${hex(await sha(bytes))}`, root: await rootOf(bytes), chunkBytes: CHUNK };
    told("");
    place.replaceChildren(facts([say("file"), `${named.name} (${size(named.size)} B)`], ["SHA-256", el("code", {}, named.sha256.slice(7))], [say("root"), el("code", {}, named.root.slice(7))], [say("purpose"), state.purpose], [say("terms"), state.terms]),
      el("button", { class: "btn", id: "share", onclick: acting(async () => {
        told(say("sending"));
        try { await make("share", { file: named, purpose: state.purpose, terms: state.terms }, file); } finally { told(""); }
        show();
        told(say("shared", { file: named.name }));
      }) }, say("sign-share")));
  }

  function showShares() {
    const place = el("div", { id: "chosen" });
    const input = el("input", { type: "file", id: "file", accept: ".csv,.qif,.xml,text/csv" });
    const picked = (file) => chosen(file, place).catch(failed);
    input.addEventListener("change", () => picked(input.files[0]));
    const drop = el("div", { class: "drop", id: "drop", ondragover: (event) => event.preventDefault(), ondrop: (event) => { event.preventDefault(); picked(event.dataTransfer.files[0]); } }, field(say("choose"), input), el("p", { class: "hint" }, say("drop", { n: size(state.fileBytes) })));
    const sheets = [];
    if (state.movedTo) sheets.push(el("section", { class: "sheet" }, el("p", {}, say("moved", { to: state.movedTo }))));
    else sheets.push(el("section", { class: "sheet" }, el("h2", {}, say("share-title", { host: state.hostName })), drop, place));
    const waiting = state.movedTo ? [] : state.requests.filter((one) => one.state === "asked");
    for (const one of waiting) {
      const answer = (kind) => acting(async () => { await make(kind, { request: one.id, share: one.share, purpose: one.purpose, terms: one.terms }); show(); });
      sheets.push(el("section", { class: "sheet request" }, el("h2", {}, say("asked-title", { host: state.hostName })), facts([say("file"), fileOf(one.share)], [say("purpose"), one.purpose], [say("terms"), one.terms], [say("since"), when(one.at)]),
        el("div", { class: "row" }, el("button", { class: "btn approve", onclick: answer("approve") }, say("approve")), el("button", { class: "btn quiet decline", onclick: answer("decline") }, say("decline")))));
    }
    const shares = state.shares.map((one) => {
      const more = state.requests.filter((ask) => ask.share === one.id && ask.state !== "asked");
      const revoke = el("button", { class: "btn danger small revoke", onclick: acting(async () => {
        if (revoke.dataset.sure) { await make("revoke", { share: one.id }); show(); told(say("revoked-now", { file: one.file })); return; }
        revoke.dataset.sure = "1";
        revoke.textContent = say("revoke-sure");
      }) }, say("revoke"));
      return el("article", { class: "card share", "data-state": one.state }, el("h3", {}, one.file),
        facts([say("state"), say(`state-${one.state}`)], [say("purpose"), one.purpose], ...more.map((ask) => [say(`answer-${ask.state}`), ask.purpose]), [say("terms"), one.terms], [say("rows"), size(one.rows) + (one.quarantined ? ` (${say("unread", { n: size(one.quarantined) })})` : "")], [say("since"), when(one.at)],
          [say("uses"), one.uses ? say("used", { n: size(one.uses), at: when(one.usedAt) }) : say("never-used")], ...(one.state === "revoked" ? [[say("ended"), when(one.changedAt)]] : [])),
        one.state === "shared" && !state.movedTo ? revoke : null);
    });
    sheets.push(el("section", { class: "sheet", id: "shares" }, el("h2", {}, say("list-title")), ...(shares.length ? shares : [el("p", { class: "hint" }, say("nothing-yet"))])));
    sheets.push(el("section", { class: "sheet" }, el("h2", {}, say("along-title")), el("p", {}, say("along-words")), el("button", { class: "btn quiet", id: "along", onclick: acting(async () => save("guantong-guest.json", { ...(await ask("papers")), key: held.file })) }, say("along"))));
    view.replaceChildren(...sheets);
  }
  const fileOf = (share) => (state.shares.find((one) => one.id === share) || {}).file || share;

  function show() {
    failed(null);
    told("");
    showKey();
    if (held && state) {
      showShares();
      const last = held.last || { number: 0, head: "" };
      // the chain is the guest's own: a host that lost or replaced a statement is found out here
      if (state.number < last.number || (state.number === last.number && last.head && state.head !== last.head)) failed(say("host-differs", { n: last.number }));
    } else if (about) showInvitation();
    else showNothing();
  }

  async function begin() {
    for (const link of document.querySelectorAll("[data-lang]")) link.addEventListener("click", () => { link.href = link.getAttribute("href").split("#")[0] + location.hash; });
    if (!window.isSecureContext || !window.crypto?.subtle || !window.indexedDB) { failed(say("insecure")); return; }
    held = (await inStore("readonly", (keys) => keys.get(WORDS["host-did"]))) || null;
    try {
      if (held && held.passkey && !held.key) { showKey(); view.replaceChildren(el("section", { class: "sheet" }, el("p", {}, say("passkey-open")), el("button", { class: "btn", id: "unlock", onclick: acting(async () => { state = await ask("state"); show(); }) }, say("unlock")))); return; }
      if (held) state = await ask("state");
      else if (code) about = await answered(await fetch(`${API}invitation`, { headers: { "guantong-invitation": code } }));
      show();
    } catch (error) { if (!held) showNothing(); failed(error); }
  }
  begin().catch(failed);
})();

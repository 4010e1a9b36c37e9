// Checks proofs of a log that guantong wrote with @sigstore/verify, which knows nothing of guantong.
// usage: node check.js DIR, laid out as for tests/conformance/sumdb. Prints "ok N", or the verifier's reason and exits 1.
'use strict'
const crypto = require('crypto')
const fs = require('fs')
const path = require('path')
const at = path.join(process.env.PEERS, '@sigstore/verify/dist')
const { verifyCheckpoint } = require(path.join(at, 'tlog/checkpoint.js'))
const { verifyMerkleInclusion } = require(path.join(at, 'tlog/merkle.js'))
const { VerificationError } = require(path.join(at, 'error.js'))

const dir = process.argv[2]
const vkey = fs.readFileSync(path.join(dir, 'vkey'), 'utf-8')
const first = vkey.indexOf('+')
const second = vkey.indexOf('+', first + 1)
const name = vkey.slice(0, first)
const id = Buffer.from(vkey.slice(first + 1, second), 'hex')
const key = Buffer.from(vkey.slice(second + 1), 'base64').subarray(1)
const log = {
  logID: Buffer.concat([id, Buffer.alloc(28)]),
  baseURL: `https://${name}`,
  publicKey: crypto.createPublicKey({
    key: Buffer.concat([Buffer.from('302a300506032b6570032100', 'hex'), key]), format: 'der', type: 'spki'
  }),
  validFor: { start: new Date(0), end: new Date(8640000000000000) }
}
try {
  const found = fs.readdirSync(path.join(dir, 'proofs')).filter(n => n.endsWith('.tlog-proof')).sort()
  for (const file of found) {
    const text = fs.readFileSync(path.join(dir, 'proofs', file), 'utf-8')
    const cut = text.indexOf('\n\n')
    const lines = text.slice(0, cut).split('\n').slice(1)
    if (lines[0].startsWith('extra ')) lines.shift() // nothing covers it, nobody may trust it
    const entry = {
      canonicalizedBody: fs.readFileSync(path.join(dir, 'proofs', file.replace('.tlog-proof', '.leaf'))),
      inclusionProof: {
        logIndex: lines[0].slice('index '.length),
        hashes: lines.slice(1).map(line => Buffer.from(line, 'base64')),
        checkpoint: { envelope: text.slice(cut + 2) }
      }
    }
    verifyMerkleInclusion(entry, verifyCheckpoint(entry, [log]))
  }
  console.log(`ok ${found.length}`)
} catch (error) {
  if (!(error instanceof VerificationError)) throw error // a crash is no answer: exit 1 with a stack trace instead of the reason
  console.error(`${error.code}: ${error.message}`)
  process.exitCode = 1
}

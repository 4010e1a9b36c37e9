// Compiles the contract with npm solc for the EVM version "paris". usage: node compile.js Anchor.sol > compiled.json
'use strict'
const fs = require('fs')
const solc = require(process.env.PEERS + '/solc')
const input = {
  language: 'Solidity',
  sources: { 'Anchor.sol': { content: fs.readFileSync(process.argv[2], 'utf-8') } },
  settings: {
    evmVersion: 'paris',
    optimizer: { enabled: true, runs: 200 },
    metadata: { bytecodeHash: 'none', appendCBOR: false },
    outputSelection: { '*': { '*': ['abi', 'evm.bytecode.object', 'evm.deployedBytecode.object', 'storageLayout'] } }
  }
}
const output = JSON.parse(solc.compile(JSON.stringify(input)))
const errors = (output.errors || []).filter(one => one.severity === 'error')
if (errors.length) {
  console.error(errors.map(one => one.formattedMessage).join('\n'))
  process.exit(1)
}
const made = output.contracts['Anchor.sol'].Anchor
process.stdout.write(JSON.stringify({
  compiler: solc.version(), abi: made.abi, bytecode: made.evm.bytecode.object, runtime: made.evm.deployedBytecode.object, storage: made.storageLayout
}))

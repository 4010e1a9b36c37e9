// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.20;

/// One line for each log: its size, its root, when, and who may go on. Never data.
///
/// A log is named by the SHA-256 of its origin. Whoever writes its first line owns the line; it only grows. Compile for the EVM version
/// "paris", so that chains without PUSH0 and MCOPY run it and their reverts keep their reasons.
contract Anchor {
    struct Head {
        uint256 size;
        bytes32 root;
        uint256 time;
        address owner;
    }

    mapping(bytes32 => Head) public heads;

    event Anchored(bytes32 indexed log, uint256 size, bytes32 root, bytes32 previous);

    function anchor(bytes32 log, uint256 size, bytes32 root) external {
        Head storage head = heads[log];
        require(head.owner == address(0) || head.owner == msg.sender, "not the owner of this log");
        require(size > head.size, "the tree did not grow");
        emit Anchored(log, size, root, head.root);
        head.size = size;
        head.root = root;
        head.time = block.timestamp;
        head.owner = msg.sender;
    }
}

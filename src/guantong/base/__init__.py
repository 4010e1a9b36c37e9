"""The pure floor: ids, time, units, canonical bytes, signatures, Merkle and note arithmetic, entries, batches, errors. No I/O."""

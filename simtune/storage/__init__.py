"""Files on a disk or in an object store: never visible half-written, and verified when they are read."""

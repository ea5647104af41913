"""One trial: from its spec to its record on disk, however often it must be tried."""

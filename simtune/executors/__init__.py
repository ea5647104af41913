"""Where work runs: in this process, or on Ray. The only room that imports ray."""

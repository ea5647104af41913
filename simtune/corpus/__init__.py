"""Tasks: readers, the pool and the hold-out, the bundled demo corpus."""

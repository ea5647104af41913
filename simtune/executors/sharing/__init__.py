"""Several sweeps at once on one cluster: how much of it each may use."""

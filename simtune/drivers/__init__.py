"""Which process may write when several share a storage: leases on runs and claims on trials."""

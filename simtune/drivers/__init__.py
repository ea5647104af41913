"""Which process may write where several share a storage: leases of runs and claims of trials."""

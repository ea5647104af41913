"""Which tasks to collect next."""

"""The hosts of a cluster: what each has, whether it is fit for a run, and what becomes of those that leave."""

"""The similarity graph of tasks, and statistics of sets of tasks."""

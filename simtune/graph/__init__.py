"""The similarity graph of tasks and what can be read off it."""

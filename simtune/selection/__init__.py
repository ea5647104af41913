"""Strategies that choose which tasks to train on, and the subsets that they choose."""

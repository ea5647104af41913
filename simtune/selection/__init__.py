"""Strategies that choose which tasks to train on."""

"""From a laptop to a cluster and back: start it, submit a sweep, follow it, fetch its results.

A cluster is described by a file of Ray's launcher (`cluster.yaml`). The launcher is called as a command. Sweeps run on
the head as Ray jobs, which are reached through an SSH tunnel by plain HTTP, so that no command here imports ray. What
only the head can read is asked of the `simtune` that is installed there, over SSH. What the machines must have is here
too.
"""

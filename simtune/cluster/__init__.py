"""Clusters: the file that describes one, and what its machines must have and may listen on."""

"""Files for other programs: instances of a subset, and the graph."""

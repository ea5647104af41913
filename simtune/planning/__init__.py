"""What a sweep will take, before any of it runs: steps, tokens, disk, and time on a cluster."""

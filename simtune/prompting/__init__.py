"""From task and instance to the source text a model reads."""

"""Task embeddings: which text is embedded, by which encoder, on which processes, and the cache of all that."""

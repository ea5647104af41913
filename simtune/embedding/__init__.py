"""Task embeddings: the text of a task, the encoder, and the cache of its vectors."""

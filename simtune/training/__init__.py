"""One fine-tuning: model families, tokenised examples, batches, the DeepSpeed engine, checkpoints and saved weights."""

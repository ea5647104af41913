"""Fine-tuning: tokenised data, batches, models, the DeepSpeed engine, and the Ray Train run."""

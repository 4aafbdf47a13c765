"""Training: transformers' Trainer with our loss, alpha schedule and interruption on top."""

"""Data a user names, as the checkpoint's own processor or tokenizer prepares it."""

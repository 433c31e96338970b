"""Named experiments with fixed seeds; nothing here runs in production."""

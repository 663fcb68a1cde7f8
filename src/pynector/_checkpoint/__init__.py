"""Resuming a batch: what an item is known by, and the file that keeps what became of each."""

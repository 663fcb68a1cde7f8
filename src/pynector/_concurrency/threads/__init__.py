"""Structured concurrency for blocking code, over threads."""

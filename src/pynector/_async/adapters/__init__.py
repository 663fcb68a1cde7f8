"""Adapters: how each provider's own SDK is asked."""

"""Loopback servers used by the tests."""

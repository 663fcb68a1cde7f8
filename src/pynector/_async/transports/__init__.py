"""Transports: how a message gets to a server and its answer back."""

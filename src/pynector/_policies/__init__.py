"""Decisions, without any I/O: no clock, no sleep, no socket. They are asked, and answer with a value."""

"""Structured concurrency for async code, over anyio (asyncio and trio)."""

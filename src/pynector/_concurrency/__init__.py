"""The one hand-written pair: structured concurrency over anyio (`aio`) and over threads (`threads`)."""

"""A rate limiter on virtual time, and the headers that tell it of limits."""

import math

from hypothesis import settings

from pynector._policies.rate_limit import RateLimit, RateLimiter

START = 1_000_000.0
WALL = 1_704_067_200.0  # 2024-01-01T00:00:00Z

relaxed = settings(deadline=None)  # the machine may be busy


def limiter(rpm=None, tpm=None, learn=False, **more):
    return RateLimiter(RateLimit(rpm, tpm, learn, **more))


class Clock:
    """Virtual time, and a user of the limiter that always waits as long as told."""

    def __init__(self, limiter, now=START):
        self.limiter = limiter
        self.now = now
        self.asked = 0

    def let_through(self, ticket):
        for _ in range(1_000):
            self.asked += 1
            wait = self.limiter.delay(ticket, self.now)
            if wait == 0:
                return ticket
            assert 0 < wait < math.inf
            self.now += wait
        raise AssertionError("it is told to wait again and again")

    def go(self, tokens=0):
        return self.let_through(self.limiter.enter(tokens))

    def burst(self, tokens=0, most=10_000):
        """How many may go at this very moment."""
        for count in range(most):
            ticket = self.limiter.enter(tokens)
            if self.limiter.delay(ticket, self.now):
                self.limiter.leave(ticket)
                return count
        return most


def openai(**told):
    names = ("limit", "remaining", "reset")
    return {
        f"x-ratelimit-{name}-{what}": str(value)
        for what, values in told.items()
        for name, value in zip(names, values, strict=False)
    }


def anthropic(**told):
    names = ("limit", "remaining", "reset")
    return {
        f"anthropic-ratelimit-{what.replace('_', '-')}-{name}": str(value)
        for what, values in told.items()
        for name, value in zip(names, values, strict=False)
    }

"""What the HTTP transport has to reach, with small answers."""

from .contestants import our_label
from .figures import Goal, Key


def _key(colour: str, concurrency: int, contestant: str) -> Key:
    return Key(colour, "GET 100 B", concurrency, contestant)


def _async(engine: str, peer: str, *, throughput: float | None = None, cost: float | None = None) -> Goal:
    ours = _key("async", 64, our_label(engine))
    return Goal(f"async, C=64, {ours.contestant} against {peer}", ours, _key("async", 64, peer), throughput, cost)


def _blocking(engine: str, peer: str, throughput: float) -> Goal:
    ours = _key("blocking", 32, our_label(engine))
    return Goal(f"blocking, C=32, {ours.contestant} against {peer}", ours, _key("blocking", 32, peer), throughput)


GOALS = (
    _async("httpx", "httpx", throughput=4.5),
    Goal(
        f"async, {our_label('httpx')}, C=256 against C=8",
        _key("async", 256, our_label("httpx")),
        _key("async", 8, our_label("httpx")),
        cost=1.3,
    ),
    _async("httpx2", "httpx2", throughput=1.2),
    _async("pyreqwest", "aiohttp", throughput=1.0),
    _async("pyreqwest", "pyreqwest", cost=1.5),
    _blocking("httpx", "requests", 1.6),
    _blocking("httpx2", "requests", 2.2),
    _blocking("pyreqwest", "requests", 5.0),
)

"""What is held of the limits of a server: by nobody, once all is over."""

from pynector import _lanes
from pynector._lanes import Lane


def lanes_of(port: int) -> list[Lane]:
    """What this process knows of the server at a port, one for each credential."""
    with _lanes._lanes.mutex:
        alive = list(_lanes._lanes.alive.items())
    return [lane for key, lane in alive if isinstance(key, tuple) and key[0].port == port]


def held(lane: Lane) -> list[str]:
    """What somebody still has, or waits for."""
    with lane.mutex:
        found = [f"{len(lane.ring)} wait for a rate limit"] if lane.ring else []
        found += [f"{len(queue)} wait for a slot" for queue in lane.queues.values() if queue]
        found += [f"{each.in_flight} slots" for each in lane._adaptive.values() if each.in_flight]
        found += [
            f"{each.waiting} tickets" for each in lane._limiters.values() if each.waiting or each.head is not None
        ]
        found += ["a probe" for each in lane._breakers.values() if each._probing]
    return found

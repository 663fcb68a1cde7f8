"""The short lock that is the same in both colours."""

import os
from _thread import RLock
from weakref import WeakSet


class ProcessMutex(RLock):  # type: ignore[misc] # typeshed calls it final; it is not
    """The short lock for plain state that the whole process shares, also across event loops.

    It may be taken again by its owner: the garbage collector can run a finaliser in the middle of a block.
    Hold it for a few plain statements only, and never across a wait. In a forked child it is free, whoever
    held it in the parent.

    Example:
        ```python
        with mutex:
            table[key] = value
        ```
    """

    __slots__ = ()  # an RLock can be referred to weakly as it is

    def __init__(self) -> None:
        super().__init__()
        _all.add(self)


forks = [0]
"""How many forks there are between this process and the one that imported this: to look is cheaper than to ask the
system for the id of the process, which the path of every request would have to."""

_all: "WeakSet[ProcessMutex]" = WeakSet()


def _in_child() -> None:
    forks[0] += 1
    # The thread that held one does not exist here. The locks of `threading` and `logging` do the same.
    for mutex in list(_all):
        mutex._at_fork_reinit()  # type: ignore[attr-defined]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)

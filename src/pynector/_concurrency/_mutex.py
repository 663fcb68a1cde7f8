"""The short lock that is the same in both colours."""

from _thread import RLock


class ProcessMutex(RLock):  # type: ignore[misc] # typeshed calls it final; it is not
    """The short lock for plain state that the whole process shares, also across event loops.

    It may be taken again by its owner: the garbage collector can run a finaliser in the middle of a block.
    Hold it for a few plain statements only, and never across a wait.

    Example:
        ```python
        with mutex:
            table[key] = value
        ```
    """

    __slots__ = ()

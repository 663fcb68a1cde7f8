"""Which server and credential a request is for."""

from contextlib import suppress
from itertools import count
from typing import Any, Final
from weakref import ref

from .._lanes import Lane, epochs, lane_of
from .._mutex import ProcessMutex, forks
from .url import Origin
from .wire import RawHeaders, WireRequest

_CREDENTIALS: Final = frozenset({b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key", b"x-auth-token"})
_LENGTHS: Final = frozenset(map(len, _CREDENTIALS))


class _Serials:
    """A number for each object that signs. Its id would be that of another one when it is gone."""

    def __init__(self) -> None:
        self._mutex = ProcessMutex()
        self._next = count(1)
        self._known: dict[int, tuple[ref[Any], int]] = {}

    def of(self, signer: object) -> int:
        """The number of an object; 0 for None."""
        if signer is None:
            return 0
        name = id(signer)
        with self._mutex:
            known = self._known.get(name)
            if known is not None and known[0]() is signer:
                return known[1]
            number = next(self._next)
            # What cannot be referred to weakly has a number for each client that it is given to.
            with suppress(TypeError):
                self._known[name] = ref(signer, lambda gone: self._forget(name, gone)), number
            return number

    def _forget(self, name: int, gone: "ref[Any]") -> None:
        with self._mutex:
            known = self._known.get(name)
            if known is not None and known[0] is gone:
                del self._known[name]


_serials: Final = _Serials()


class LaneFinder:
    """Finds the lane of each request of one transport.

    Args:
        signer: What signs its requests later on, if anything does: those with the same one have one credential.
    """

    __slots__ = ("_last", "_serial", "_signer")

    def __init__(self, signer: object = None) -> None:
        self._signer = signer
        self._serial = _serials.of(signer)
        self._last: tuple[Origin, RawHeaders, int, Lane] | None = None

    def find(self, wire: WireRequest) -> Lane:
        """The lane of a request."""
        origin, headers, last = wire.target.origin, wire.headers, self._last
        # Most requests go where the one before went, with the very same headers.
        if last is not None and last[0] is origin and last[1] is headers and last[2] == forks[0] + epochs[0]:
            return last[3]
        credentials = tuple(value for name, value in headers if len(name) in _LENGTHS and name.lower() in _CREDENTIALS)
        # A hash is salted anew in every process, and nothing that a credential could be found by.
        lane = lane_of((origin, hash(credentials), self._serial))
        self._last = origin, headers, forks[0] + epochs[0], lane
        return lane

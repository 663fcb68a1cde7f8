"""A mapping of digests to numbers, for millions of them: a dict of the same takes several times the memory."""

from array import array
from typing import Final

_FIRST_SIZE: Final = 1024  # slots; a power of two, as every size after it
_MASK: Final = 2**64 - 1


def digest_of(key: str) -> int:
    """The 128 bits that stand for a key in memory."""
    from hashlib import sha256  # few need it, and it loads a large library

    digest = sha256(key.encode("utf-8", "surrogatepass"), usedforsecurity=False).digest()
    return int.from_bytes(digest[:16], "little")


class DigestTable:
    """A mapping of 128-bit digests to numbers of 0 or more, in 24 bytes for each slot of a hash table.

    Open addressing: a digest goes to the first free slot from the one that its own bits point to, and nothing is ever
    removed.
    """

    __slots__ = ("_high", "_len", "_low", "_numbers")

    def __init__(self) -> None:
        self._len = 0
        self._allocate(_FIRST_SIZE)

    def _allocate(self, size: int) -> None:
        self._low, self._high, self._numbers = (array("Q", bytes(8 * size)) for _ in range(3))

    def __len__(self) -> int:
        return self._len

    def get(self, digest: int) -> int | None:
        """Return the number of a digest, or None if it has none."""
        number = self._numbers[self._slot(digest)]
        return number - 1 if number else None

    def put(self, digest: int, number: int) -> None:
        """Give a digest a number, in the place of the one it had."""
        slot = self._slot(digest)
        if not self._numbers[slot]:
            if 3 * self._len >= 2 * len(self._numbers):
                self._grow()
                slot = self._slot(digest)
            self._len += 1
            self._low[slot], self._high[slot] = digest & _MASK, digest >> 64
        self._numbers[slot] = number + 1  # 0 is a free slot

    def _slot(self, digest: int) -> int:
        """The slot that has the digest, or the free one where it belongs."""
        low, high = digest & _MASK, digest >> 64
        last = len(self._numbers) - 1
        slot = low & last
        while self._numbers[slot] and (self._low[slot] != low or self._high[slot] != high):
            slot = (slot + 1) & last
        return slot

    def _grow(self) -> None:
        old = zip(self._low, self._high, self._numbers, strict=True)
        self._allocate(2 * len(self._numbers))
        for low, high, number in old:
            if number:
                slot = self._slot(high << 64 | low)
                self._low[slot], self._high[slot], self._numbers[slot] = low, high, number

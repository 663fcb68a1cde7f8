"""Making connections: the names of hosts, and the race between their addresses."""

import errno
import os
import socket
from collections import deque
from time import monotonic

from .._addresses import NEXT_AFTER, Address, Lookup, by_turns, literal, open_socket
from ._parking import current
from ._polling import wait_writable
from ._workers import pool
from .clock import sleep


def connect_tcp(host: str, port: int, deadline: float, local_address: str | None) -> socket.socket:
    """Connect to the address of a host that answers first; the deadline is for all of them together."""
    waiting = deque(by_turns(_resolve(host, port, deadline)))
    running: list[socket.socket] = []
    failure = OSError("getaddrinfo returned no address")
    try:
        while waiting or running:
            if waiting:
                try:
                    sock, connected = open_socket(waiting.popleft(), local_address)
                except OSError as error:
                    failure = error
                    continue
                if connected:
                    return sock
                running.append(sock)
            # Until the next one may start. It starts at once if one fails.
            limit = min(deadline, monotonic() + NEXT_AFTER) if waiting else deadline
            for sock in wait_writable(running, limit):
                running.remove(sock)
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if not code:
                    return sock
                sock.close()
                failure = OSError(code, os.strerror(code))
            if running and monotonic() >= deadline:
                raise TimeoutError("The connect operation timed out")
        try:
            raise failure
        finally:
            del failure  # its traceback refers to this frame
    finally:
        for sock in running:
            sock.close()


def _resolve(host: str, port: int, deadline: float) -> list[Address]:
    if found := literal(host, port):
        return found
    task = current()
    lookup = Lookup(host, port, task.wake)
    task.waits += 1
    try:
        pool.submit(lookup)
        while not lookup.done:
            if monotonic() >= deadline:
                raise TimeoutError("The name lookup timed out")
            task.park(deadline)
    finally:
        task.pass_on()
    return lookup.result()


def connect_unix(path: str, deadline: float) -> socket.socket:
    """Connect to a Unix domain socket."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        while (code := sock.connect_ex(path)) == errno.EAGAIN:
            # The listener's queue is full, and no descriptor tells when that changes.
            left = deadline - monotonic()
            if left <= 0:
                raise TimeoutError("The connect operation timed out")
            sleep(min(0.01, left))
        if code:
            raise OSError(code, os.strerror(code))
    except BaseException:
        sock.close()
        raise
    return sock

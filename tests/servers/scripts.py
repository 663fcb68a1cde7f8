"""Scripts for a `ScriptedServer` that several files of tests need, and what is the same of all that fails there."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pynector import errors
from servers.scripted import Connection, Script, ScriptedServer, http_response

OK = http_response(b"good")


def good(conn: Connection) -> None:
    """Answers every request well."""
    try:
        while True:
            conn.read_request()
            conn.send(OK)
    except EOFError:
        pass


def silent(conn: Connection) -> None:
    """Reads a request and says nothing."""
    conn.read_request()
    conn.wait()


def answer(data: bytes) -> Script:
    """Answers one request with these bytes, and waits for the client to hang up."""

    def script(conn: Connection) -> None:
        conn.read_request()
        conn.send(data)
        conn.wait()

    return script


def cut(data: bytes = b"", *, reset: bool = False) -> Script:
    """Answers one request with these bytes, and hangs up."""

    def script(conn: Connection) -> None:
        conn.read_request()
        if data:
            conn.send(data)
            conn.wait(0.05)  # the client reads them before the end of the connection
        conn.reset() if reset else conn.close()

    return script


@contextmanager
def failing(
    server: ScriptedServer, kind: type[errors.TransportError], method: str = "GET"
) -> Iterator[pytest.ExceptionInfo[errors.TransportError]]:
    """The block asks the server for `/x` and fails soon, with an error of just this class that tells what was asked."""
    started = time.monotonic()
    with pytest.raises(errors.TransportError) as caught:
        yield caught
    assert time.monotonic() - started < 3
    error = caught.value
    assert type(error) is kind
    assert error.method == method
    assert error.url == f"{server.url}/x"
    assert error.attempts >= 1
    assert error.elapsed is not None

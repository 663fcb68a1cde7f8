"""A secret that sings wherever it gets out, and a server that sends back all it was told."""

import base64
import logging
import traceback
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest

from pynector.testing import ServerRequest, ServerResponse
from servers.recorded import Recorded, recording

CANARY: Final = "canary7f3a91cb20"
USER: Final = "canaryowner"

_BASIC = base64.b64encode(f"{USER}:{CANARY}".encode()).decode()
FORMS: Final = (CANARY, _BASIC, _BASIC.rstrip("="), base64.b64encode(CANARY.encode()).decode().rstrip("="))
"""How it may look: as it is, and as Basic authentication sends it."""


def sings(text: str) -> bool:
    """Whether the secret is in a text."""
    return any(form in text for form in FORMS)


def shown(thing: Any) -> str:
    """All that is seen of an object when it is printed, also inside of others and in a notebook."""
    html = getattr(thing, "_repr_html_", None)
    return f"{thing!r} {thing} {[thing]!r} {html() if callable(html) else ''}"


class Watch:
    """Everything that the library says, to whomever, from its beginning on.

    Args:
        recorded: Spans and measurements.
        caplog: Log records.
        warned: Warnings.
    """

    def __init__(
        self, recorded: Recorded, caplog: pytest.LogCaptureFixture, warned: list[warnings.WarningMessage]
    ) -> None:
        self.recorded = recorded
        self._caplog = caplog
        self._warned = warned
        self._shown: list[tuple[str, str]] = []
        self.failures: list[str] = []

    def show(self, *things: Any) -> None:
        """Look at objects as somebody does who prints them."""
        self._shown += [(f"repr of {type(thing).__name__}", shown(thing)) for thing in things]

    def failed(self, exc: BaseException) -> None:
        """Look at an exception as a crash report does, and at what it refers to."""
        kind = type(exc).__name__
        self.failures.append(kind)
        self._shown.append((f"text of {kind}", shown(exc)))
        self._shown.append((f"traceback of {kind}", "".join(traceback.format_exception(exc))))
        told = {name: value for name, value in vars(exc).items() if name != "partial"}
        self._shown.append((f"fields of {kind}", repr(told)))

    def places(self) -> dict[str, list[str]]:
        """What was said, by the kind of place."""
        records = [f"{record.name}: {vars(record)!r}" for record in self._caplog.records]
        metrics = self.recorded.reader.get_metrics_data()
        return {
            "logs": [*records, self._caplog.text],
            "spans": [str(span.to_json()) for span in self.recorded.spans],
            "metrics": [] if metrics is None else [str(metrics.to_json())],
            "warnings": [f"{warning.message!r} {warning.source!r}" for warning in self._warned],
            **{name: [] for name, _ in self._shown},
        } | self._by_name()

    def leaks(self) -> list[str]:
        """Where the secret got out."""
        return [f"{place}: {text}" for place, texts in self.places().items() for text in texts if sings(text)]

    def _by_name(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name, text in self._shown:
            found.setdefault(name, []).append(text)
        return found


@contextmanager
def watching(caplog: pytest.LogCaptureFixture) -> Iterator[Watch]:
    """Listen to every logger at its lowest level, to warnings, spans and measurements."""
    caplog.set_level(logging.NOTSET + 1)
    for name in list(logging.root.manager.loggerDict):
        caplog.set_level(logging.NOTSET + 1, logger=name)
    with recording() as recorded, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        yield Watch(recorded, caplog, warned)


def echo_app(request: ServerRequest) -> ServerResponse | None:
    """Refuses, breaks off or goes round in circles, and sends back what it was told while it does."""
    name, _, rest = request.path[1:].partition("/")
    said = b"%b\n%r\n%b" % (request.target.encode(), request.headers, request.body)
    kept = (("set-cookie", f"session={CANARY}; Path=/"), ("x-api-key", CANARY), ("content-type", "text/plain"))
    match name:
        case "refuse":
            return ServerResponse(int(rest), kept, said)
        case "round":
            return ServerResponse(302, (*kept, ("location", request.target)), said)
        case "nowhere":
            return ServerResponse(302, (*kept, ("location", f"http://{USER}:{CANARY}@[/?api_key={CANARY}")), said)
        case "squeezed":
            return ServerResponse(200, (*kept, ("content-encoding", "gzip")), said)
        case "key":
            return ServerResponse(200, kept, b'{"api_key": "%b' % CANARY.encode())
        case "cut":
            return ServerResponse(200, kept, _cut(said), length=len(said) + 100)
        case "events":
            event = b'data: {"api_key": "%b\n\n' % CANARY.encode()
            return ServerResponse(200, (*kept[:2], ("content-type", "text/event-stream")), event)
    return None


async def _cut(said: bytes) -> AsyncIterator[bytes]:
    yield said
    raise ConnectionAbortedError

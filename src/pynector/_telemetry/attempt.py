"""One HTTP request on the wire, as a span and as a measurement."""

import functools
import os
from typing import Any

from .._http.peer import Peer
from .._http.wire import WireRequest
from . import semconv
from .guard import report_failure
from .metrics import Instruments, instruments
from .redactor import redact_url
from .tracing import Attributes, Lasting, RawHeaders, Tracing

_KNOWN = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"})


@functools.cache
def known_methods() -> frozenset[str]:
    """The methods that are shown as they are; the application may name others in the environment."""
    given = os.environ.get("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS")
    return _KNOWN if not given else frozenset(name.strip() for name in given.split(",") if name.strip())


class HTTPAttempt(Lasting):
    """One request on the wire, from its first byte to the last of its answer.

    Args:
        tracing: What spans are made with.
        tracer: The tracer; None for no span.
        measured: The instruments; None for none.
        wire: The request.
        resends: How often it was sent before.

    Attributes:
        peer: Who is at the other end of its connection: host and port, or the path of a socket; None if not known.
    """

    __slots__ = ("_about", "_status", "_version", "peer")

    def __init__(
        self, tracing: Tracing, tracer: Any, measured: Instruments | None, wire: WireRequest, resends: int
    ) -> None:
        Lasting.__init__(self, tracing, measured)
        self.peer: Peer | None = None
        self._status = 0
        self._version = ""
        method, origin = wire.method, wire.target.origin
        known = method in known_methods()
        # What both have, the span and the measurement. Sampling goes by it.
        self._about: Attributes = {
            semconv.HTTP_REQUEST_METHOD: method if known else "_OTHER",
            semconv.SERVER_ADDRESS: origin.host.decode("ascii", "replace"),
            semconv.SERVER_PORT: origin.port,
        }
        if tracer is not None:
            attributes = {**self._about, semconv.URL_FULL: redact_url(str(wire.target))}
            if not known:
                attributes[semconv.HTTP_REQUEST_METHOD_ORIGINAL] = method
            if resends:
                attributes[semconv.HTTP_REQUEST_RESEND_COUNT] = resends
            self.start(tracer, method if known else semconv.UNKNOWN_METHOD, "CLIENT", attributes)

    def answered(self, status_code: int, http_version: str) -> None:
        """The head of the answer is there."""
        self._status = status_code
        self._version = http_version.removeprefix("HTTP/")

    def _outcome(self, error: BaseException | None) -> tuple[str, str] | None:
        found = Lasting._outcome(self, error)
        if found is None and self._status >= 400:
            found = str(self._status), ""
        return found

    def _attributes(self) -> Attributes:
        attributes = self._answer()
        if self.peer is not None:
            attributes[semconv.NETWORK_PEER_ADDRESS], port = self.peer
            if port is not None:
                attributes[semconv.NETWORK_PEER_PORT] = port
        return attributes

    def _answer(self) -> Attributes:
        attributes: Attributes = {}
        if self._status:
            attributes[semconv.HTTP_RESPONSE_STATUS_CODE] = self._status
        if self._version:
            attributes[semconv.NETWORK_PROTOCOL_VERSION] = self._version
        return attributes

    def _measure(self, seconds: float, error: tuple[str, str] | None) -> None:
        if self.measured is not None:
            attributes = {**self._about, **self._answer()}
            if error is not None:
                attributes[semconv.ERROR_TYPE] = error[0]
            self.measured.record(semconv.REQUEST_DURATION, seconds, attributes)


def start_attempt(tracing: Tracing, wire: WireRequest, spans: int) -> HTTPAttempt | None:
    """A request goes out; None if nothing of it would be recorded.

    Args:
        tracing: What spans are made with.
        wire: The request.
        spans: How often it was sent before; below 0 if it has no spans.
    """
    tracer, measured = None if spans < 0 else tracing.tracer(), instruments()
    if tracer is None and measured is None:
        return None
    try:
        return HTTPAttempt(tracing, tracer, measured, wire, spans)
    except Exception as exc:  # noqa: BLE001 - of what it is made of nothing may spoil the request
        report_failure("span start", exc)
        return None


def sent_headers(tracing: Tracing, wire: WireRequest, headers: RawHeaders, attempt: HTTPAttempt | None) -> RawHeaders:
    """The headers of a request, with the context that its server continues.

    What was redirected to another origin does not have it: whoever runs that was not asked by the application.
    """
    return tracing.inject(headers, None if attempt is None else attempt.context) if wire.trusted else headers

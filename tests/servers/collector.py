"""A collector of traces that others have written: the test agent of Datadog, which takes OTLP and shows what it got.

It pins an old `opentelemetry-proto`, so that it lives in an environment of its own: `PYNECTOR_TEST_COLLECTOR` is the
path of its command there. A `ddapm-test-agent` on the path is taken as well, if it is recent enough.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from base64 import b64decode
from types import TracebackType
from typing import Any, NamedTuple, Self

_PATIENCE = 30.0


def command() -> str | None:
    """How it is started; None if it is not installed."""
    found = os.environ.get("PYNECTOR_TEST_COLLECTOR") or shutil.which("ddapm-test-agent")
    if found is None:
        return None
    options = subprocess.run([found, "--help"], capture_output=True, text=True, timeout=60, check=False).stdout
    return found if "--otlp-http-port" in options else None


class Received(NamedTuple):
    """A span as the collector has it."""

    id: bytes
    parent: bytes
    trace: bytes
    name: str
    kind: str
    failed: bool
    attributes: dict[str, Any]
    resource: dict[str, Any]
    scope: str


class Collector:
    """The process."""

    def __init__(self, program: str) -> None:
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    @property
    def endpoint(self) -> str:
        """Where spans are sent to."""
        return f"http://127.0.0.1:{self._port}/v1/traces"

    def spans(self) -> list[Received]:
        """All spans that it got."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/test/session/traces", timeout=10) as answer:
            requests = json.load(answer)
        return [
            _received(span, of_resource["resource"], of_scope.get("scope", {}))
            for request in requests
            for of_resource in _get(request, "resourceSpans")
            for of_scope in _get(of_resource, "scopeSpans")
            for span in of_scope["spans"]
        ]

    def __enter__(self) -> Self:
        own, self._port, grpc = _free_ports(3)
        ports = ["--port", str(own), "--otlp-http-port", str(self._port), "--otlp-grpc-port", str(grpc)]
        self._process = subprocess.Popen([self._program, *ports], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until and self._process.poll() is None:
            with contextlib.suppress(OSError, urllib.error.URLError):
                self.spans()
                return self
            time.sleep(0.1)
        self.__exit__(None, None, None)
        raise RuntimeError("the collector did not start")

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


def _get(mapping: dict[str, Any], name: str) -> Any:
    """A field, by its name in JSON or in the protocol."""
    snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
    return mapping.get(name, mapping.get(snake, []))


def _id(text: str | None) -> bytes:
    return b64decode(text) if text else b""


def _value(given: dict[str, Any]) -> Any:
    ((kind, value),) = given.items()
    if kind in ("intValue", "int_value"):
        return int(value)
    if kind in ("arrayValue", "array_value"):
        return [_value(each) for each in value.get("values", [])]
    return value


def _attributes(given: list[dict[str, Any]]) -> dict[str, Any]:
    return {each["key"]: _value(each["value"]) for each in given}


def _received(span: dict[str, Any], resource: dict[str, Any], scope: dict[str, Any]) -> Received:
    status = span.get("status", {}).get("code", 0)
    return Received(
        _id(_get(span, "spanId")),
        _id(_get(span, "parentSpanId") or None),
        _id(_get(span, "traceId")),
        span["name"],
        str(span["kind"]),
        status in ("STATUS_CODE_ERROR", 2),
        _attributes(span.get("attributes", [])),
        _attributes(resource.get("attributes", [])),
        scope.get("name", ""),
    )

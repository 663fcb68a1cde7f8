"""What an application's log handlers, redactors and instruments raise changes no answer."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from opentelemetry.metrics import _internal as metrics_internal

from pynector import AsyncPynector, RetryPolicy
from pynector.errors import HTTPNotFoundError
from pynector.telemetry import add_redactor, remove_redactor
from pynector.testing import LocalServer
from servers.provider_server import ProviderServer
from servers.recorded import attributes, recording

pytestmark = pytest.mark.usefixtures("no_proxies_around")

QUICK = RetryPolicy(max_retries=2, backoff_factor=0.001, budget=None)


class Broken(logging.Handler, logging.Filter):
    """Raises, whatever it is asked to do with a record."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.seen: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        self._fail(record)

    def filter(self, record: logging.LogRecord) -> bool:
        self._fail(record)
        return True

    def _fail(self, record: logging.LogRecord) -> None:
        # Event loops log as well, and whatever that does is none of our affair.
        if not record.name.startswith(("asyncio", "trio", "servers")):
            self.seen.add(record.name)
            raise RuntimeError(record.name)


@contextmanager
def listening(how: str, *loggers: str) -> Iterator[Broken]:
    """Log everything through a handler that raises, or past a filter on some loggers that does."""
    broken, root = Broken(), logging.getLogger()
    if how == "handler":
        root.addHandler(broken)
    else:
        for name in loggers:
            logging.getLogger(name).addFilter(broken)
    level = root.level
    root.setLevel(logging.DEBUG)
    try:
        yield broken
    finally:
        root.setLevel(level)
        root.removeHandler(broken)
        for name in loggers:
            logging.getLogger(name).removeFilter(broken)


each_kind = pytest.mark.parametrize("how", ["handler", "filter"])


async def everything(client: AsyncPynector, path: str) -> None:
    """One of each kind of call."""
    assert (await client.get(f"{path}?fail=1")).json()["attempt"] == 2
    with pytest.raises(HTTPNotFoundError):
        await client.get("/status/404")
    results = await client.batch_request([{"path": f"/items/{n}"} for n in range(3)])
    assert [result.json()["id"] for result in results] == [0, 1, 2]
    async with client.stream({"path": "/stream?n=2&ms=0"}) as response:
        assert len(await response.read()) == 26


@each_kind
@pytest.mark.usefixtures("engine")
async def test_handlers_that_raise(server: LocalServer, how: str) -> None:
    with listening(how, "pynector", "pynector.http", "pynector.attempts") as broken:
        async with AsyncPynector(base_url=server.url, retry=QUICK) as client:
            await everything(client, "/flaky/handled")
    assert broken.seen >= {"pynector.http", "pynector.attempts"}


@each_kind
async def test_handlers_of_what_a_client_of_the_users_own_logs(server: LocalServer, how: str) -> None:
    async with httpx.AsyncClient(base_url=server.url) as own:
        with listening(how, "httpx", "httpcore.http11", "httpcore.connection") as broken:
            async with AsyncPynector(client=own, retry=QUICK) as client:
                await everything(client, "/flaky/handled-own")
    assert "httpx" in broken.seen


@each_kind
@pytest.mark.needs("openai", "anthropic")
async def test_handlers_of_what_an_sdk_logs(provider: ProviderServer, how: str) -> None:
    package = provider.name
    with listening(how, package, f"{package}._base_client", "httpx2") as broken:
        async with AsyncPynector(**provider.options(), retry=QUICK) as client:
            assert (await client.request(f"hello scenario=503x1 {how}")).text.startswith("echo: hello")
            async with client.stream("hello") as answer:
                assert (await answer.read()).text == "echo: hello"
    assert broken.seen >= {f"{package}._base_client", "httpx2"}


async def test_a_redactor_that_raises(server: LocalServer, caplog: pytest.LogCaptureFixture) -> None:
    def broken(text: str) -> str:
        raise RuntimeError(text)

    add_redactor(broken)
    try:
        with recording() as recorded, caplog.at_level(logging.DEBUG, "pynector"):
            async with AsyncPynector(base_url=server.url, retry=QUICK) as client:
                await everything(client, "/flaky/redacted")
            assert {attributes(span)["url.full"] for span in recorded.attempts} == {"REDACTED"}
    finally:
        remove_redactor(broken)


class BrokenInstrument:
    """An instrument, a meter or a provider that raises in everything, or from some point on."""

    def __init__(self, *lasts: str) -> None:
        self._lasts = lasts

    def __getattr__(self, name: str) -> Any:
        def call(*_: object, **__: object) -> "BrokenInstrument":
            if name.partition("_")[0] in self._lasts:
                return self
            raise RuntimeError(name)

        return call


@pytest.mark.parametrize("lasts", [(), ("get",), ("get", "create")], ids=["provider", "meter", "instrument"])
async def test_instruments_that_raise(server: LocalServer, lasts: tuple[str, ...]) -> None:
    with recording(with_metrics=False) as recorded:
        metrics_internal._METER_PROVIDER = BrokenInstrument(*lasts)
        async with AsyncPynector(base_url=server.url, retry=QUICK) as client:
            await everything(client, "/flaky/measured")
        assert len(recorded.attempts) == 7

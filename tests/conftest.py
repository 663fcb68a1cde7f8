"""Fixtures shared by every test."""

import contextlib
import functools
import socket
import ssl
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import trustme

from pynector._concurrency.threads import _workers
from pynector.testing import LocalServer, reset_limits
from servers.anthropic_wire import AnthropicApp
from servers.extras import is_left_out, leave_out
from servers.httpbin_server import HttpbinServer
from servers.leaks import LeakCheck
from servers.openai_wire import OpenAIApp
from servers.provider_server import ProviderServer
from servers.proxy import USER, PproxyServer, ProxyServer

_IDLE = 3.0  # seconds that idle workers have to end, and closed sockets to go


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run every async test on both event loops."""
    return request.param


@pytest.fixture
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test of the HTTP transport on every engine, by `pytestmark = pytest.mark.usefixtures("engine")`.

    With the mark `engines("httpx", ...)` it runs on those alone: say why next to it.
    """
    name: str = request.param
    monkeypatch.setenv("PYNECTOR_HTTP_ENGINE", name)
    if name == "pyreqwest":
        _start_pyreqwest()
    return name


@functools.cache
def _start_pyreqwest() -> None:
    """Start its runtime, which has descriptors of its own for the life of the process: they are no leak of a test."""
    from pyreqwest.client import SyncClientBuilder

    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    with contextlib.suppress(OSError), contextlib.closing(SyncClientBuilder().no_proxy().build()) as client:
        with contextlib.suppress(Exception):
            client.get(f"http://127.0.0.1:{address[1]}/").build().send()


ENGINES = ("httpx", "httpx2", "pyreqwest")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "engine" in metafunc.fixturenames:
        only = metafunc.definition.get_closest_marker("engines")
        engines = [
            engine if engine == "httpx" else pytest.param(engine, marks=pytest.mark.needs(engine))
            for engine in (ENGINES if only is None else only.args)
        ]
        metafunc.parametrize("engine", engines, indirect=True)


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    return True if is_left_out(collection_path) else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave to the long run what the default engine has shown already.

    That is all that other engines do on trio, as they do it on asyncio too, what httpx2 does on asyncio, where only the
    module below is another one, and what tests say by the mark `full_beyond("httpx", ...)`: those that are about what
    stands above the engines. So it does with providers on trio, but for one of them,
    and with the second API of that one on event loops: it is the same adapter over the same wire.
    """
    leave_out(items)
    for item in items:
        params = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        if (engine := params.get("engine", "httpx")) != "httpx":
            beyond = item.get_closest_marker("full_beyond")
            backend = params.get("anyio_backend")
            if (
                backend == "trio"
                or (engine == "httpx2" and backend is not None)
                or (beyond is not None and engine not in beyond.args)
            ):
                item.add_marker("full")
        provider, backend = params.get("provider", "openai"), params.get("anyio_backend")
        if (backend == "trio" and provider != "openai") or (backend is not None and provider == "responses"):
            item.add_marker("full")


@pytest.fixture(autouse=True)
def _fresh_limits() -> None:
    """No test is held back by what an earlier one has done to the same server."""
    reset_limits()


@pytest.fixture(scope="session")
def _local_server() -> Iterator[LocalServer]:
    with LocalServer() as server:
        yield server


@pytest.fixture
def server(request: pytest.FixtureRequest, _local_server: LocalServer) -> Iterator[LocalServer]:
    """The local server, with its counts at zero."""
    if "engine" in request.fixturenames and request.getfixturevalue("engine") == "pyreqwest":
        # Of a call that was cancelled the request may still be under way there, and would be counted here.
        with LocalServer() as own:
            yield own
    else:
        _local_server.reset()
        yield _local_server


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """A certificate authority nobody trusts by default."""
    return trustme.CA()


@pytest.fixture(scope="session")
def ca(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The PEM file of the authority that `tls_server` is certified by."""
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


@pytest.fixture
def client_ssl_context(authority: trustme.CA) -> ssl.SSLContext:
    """A client's context that trusts `tls_server`."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture(scope="session")
def server_ssl_context(authority: trustme.CA) -> ssl.SSLContext:
    """A server's context with a certificate for 127.0.0.1 and localhost."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return context


@pytest.fixture(scope="session")
def _tls_server(server_ssl_context: ssl.SSLContext) -> Iterator[LocalServer]:
    with LocalServer(ssl_context=server_ssl_context) as server:
        yield server


@pytest.fixture
def tls_server(_tls_server: LocalServer) -> LocalServer:
    """The local server over HTTPS, with its counts at zero."""
    _tls_server.reset()
    return _tls_server


@pytest.fixture
def sites(server: LocalServer, tls_server: LocalServer) -> dict[str, LocalServer]:
    """A server for each scheme."""
    return {"http": server, "https": tls_server}


@pytest.fixture
def no_proxies_around(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take out of the environment what it says of proxies, and of certificates."""
    for name in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name.upper()}_PROXY", raising=False)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):  # one of the engines can't be told not to look at them
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def proxy() -> Iterator[ProxyServer]:
    """A proxy for everybody."""
    with ProxyServer() as running:
        yield running


@pytest.fixture(scope="session")
def pproxy() -> Iterator[PproxyServer]:
    """A proxy that others have written, for `USER`."""
    with PproxyServer(USER) as running:
        yield running


_HTTPBIN = pytest.StashKey[HttpbinServer]()


@pytest.fixture(scope="session")
def httpbin(pytestconfig: pytest.Config) -> Iterator[str]:
    """The URL of a real httpbin under gunicorn."""
    with HttpbinServer() as server:
        pytestconfig.stash[_HTTPBIN] = server
        yield server.url
        del pytestconfig.stash[_HTTPBIN]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what httpbin printed next to the failure of a test that used it."""
    report = yield
    server = item.config.stash.get(_HTTPBIN, None)
    if report.failed and server is not None and "httpbin" in getattr(item, "fixturenames", ()):
        report.sections.append(("output of httpbin", server.output()[-5000:]))
    return report


@pytest.fixture
def no_leaks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail if the test leaves a worker thread, a socket, a pipe or an event descriptor behind.

    Waits for idle workers to end. With a server in this process, a connection that a client left open shows
    twice, once for either end.
    """
    # The end of each that idles is waited for, in hundreds of tests.
    monkeypatch.setattr(_workers, "IDLE_SECONDS", 0.1)
    check = LeakCheck()
    yield
    left = check.wait(_IDLE)
    if left:
        pytest.fail(f"left open {_IDLE:g} s after the test:\n  " + "\n  ".join(left), pytrace=False)


@pytest.fixture(scope="session")
def openai_server() -> Iterator[ProviderServer]:
    """A server that speaks the wire format of OpenAI."""
    with LocalServer(app := OpenAIApp()) as server:
        yield ProviderServer("openai", app, f"{server.url}/v1", "gpt-5", server)


@pytest.fixture(scope="session")
def anthropic_server() -> Iterator[ProviderServer]:
    """A server that speaks the wire format of Anthropic."""
    with LocalServer(app := AnthropicApp()) as server:
        yield ProviderServer("anthropic", app, server.url, "claude-sonnet-5-5", server)


@pytest.fixture(params=["openai", "responses", "anthropic"])
def provider(
    request: pytest.FixtureRequest, openai_server: ProviderServer, anthropic_server: ProviderServer
) -> ProviderServer:
    """Each provider in turn, and of OpenAI both APIs."""
    own = anthropic_server if request.param == "anthropic" else openai_server
    own.app.forget()
    return own._replace(api="responses") if request.param == "responses" else own

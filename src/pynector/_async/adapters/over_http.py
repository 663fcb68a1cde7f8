"""What the adapters of SDKs on httpx2 have in common: the API key, and the HTTP client inside."""

import importlib
import os
from abc import abstractmethod
from collections.abc import Hashable, Mapping
from typing import Any, ClassVar

from ..._concurrency.aio.colour import settle
from ..._concurrency.aio.locks import Mutex
from ..._config import UNSET, Secret, UnsetType, check_names, resolve
from ..._http.arguments import KEEPALIVE_EXPIRY, MAX_CONNECTIONS, checked_settings
from ..._http.settings import CertTypes, VerifyTypes
from ..._sdk.settings import checked_base_url, checked_client, checked_headers, checked_key, require
from ..._telemetry.foreign import tame
from ...errors import ConfigurationError
from .base import AsyncSDKAdapter


class AsyncHTTPAdapter(AsyncSDKAdapter):
    """The base of adapters whose SDK takes an `httpx2.AsyncClient`.

    The SDK sends through an engine of ours, the same as HTTP requests do: so the deadlines of requests and batches
    hold, and a cancelled one lets go of its connection at once. The SDK's own retries are switched off.

    Args:
        api_key: The API key; by default from the environment.
        base_url: Where the provider is, or a server that speaks the same language; by default from the environment,
            else the provider itself.
        timeout: The longest silence of the network, in seconds; None for no limit.
        headers: Headers for every request.
        client: A client of the SDK of your own (for Azure, Bedrock, ...). It brings key, address, connections and
            time-outs; its own retries are switched off.
        engine: The HTTP engine: `httpx2` by default, or `httpx`, or `pyreqwest`.
        proxy: As for the HTTP transport.
        verify_ssl: As for the HTTP transport.
        cert: As for the HTTP transport.
        trust_env: As for the HTTP transport.
        http2: As for the HTTP transport.
        uds: As for the HTTP transport.
        max_connections: The most connections at once; by default as many as there are requests under way, as it is the
            batch that limits these.
        **sdk_options: Arguments of the SDK's own client, those that `sdk_arguments` names.

    Raises:
        ConfigurationError: An argument is wrong, the SDK is not installed, or there is no API key.
    """

    package: ClassVar[str]
    """The package of the SDK."""
    extra: ClassVar[str]
    """Our extra that installs it."""
    client_api: ClassVar[str]
    """What its client has, and those of other SDKs have not."""
    key_variable: ClassVar[str]
    url_variable: ClassVar[str]
    default_url: ClassVar[str]
    sdk_arguments: ClassVar[frozenset[str]] = frozenset()
    """What may be handed to the SDK's client as it is."""

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout: float | None = 60.0,
        *,
        headers: Mapping[str, str] | None = None,
        client: Any = None,
        engine: str | UnsetType = UNSET,
        proxy: str | None = None,
        verify_ssl: VerifyTypes = True,
        cert: CertTypes | None = None,
        trust_env: bool = True,
        http2: bool = False,
        uds: str | os.PathLike[str] | None = None,
        max_connections: int = MAX_CONNECTIONS,
        **sdk_options: Any,
    ) -> None:
        require(self.package, self.extra)
        check_names("option", sdk_options, self.sdk_arguments)
        self._settings = checked_settings(
            timeout=timeout,
            verify_ssl=verify_ssl,
            cert=cert,
            trust_env=trust_env,
            http2=http2,
            proxy=proxy,
            uds=uds,
            max_connections=max_connections,
            max_connections_per_host=None,
            keepalive_expiry=KEEPALIVE_EXPIRY,
            max_response_size=None,
            max_decompressed_size=None,
            follow_redirects=True,
            client=None,
        )
        self._mutex = Mutex()
        self._wire: Any = None
        self._made: Any = None
        self._own = client
        self.reports_sending = client is None
        self._options = Secret({"default_headers": checked_headers(headers), **sdk_options})
        if client is not None:
            if api_key is not None or base_url is not None or headers or sdk_options:
                raise ConfigurationError("client= brings its own key, address, headers and options: set them there")
            checked_client(client, self.provider, self.client_api, AsyncSDKAdapter)
            self._key = Secret("")
            self._base_url = str(getattr(client, "base_url", ""))
            return
        self._key = checked_key(api_key, self.key_variable, self.provider)
        self._base_url = checked_base_url(base_url, self.url_variable, self.default_url)
        # The SDKs bring it along, and of the two engines that run everywhere it is the faster one.
        default = engine if engine is not UNSET else os.environ.get("PYNECTOR_HTTP_ENGINE") or "httpx2"
        self._engine: str = resolve("http_engine", default)

    @property
    def identity(self) -> Hashable:
        """Equal for the same address and key; for a client of your own that client itself."""
        return (self.provider, id(self._own)) if self._own is not None else (self._base_url, hash(self._key))

    @property
    def base_url(self) -> str:
        """Where requests go."""
        return self._base_url

    @property
    def _client(self) -> Any:
        """The SDK's client, made on first use."""
        made = self._made
        if made is not None:
            return made
        with self._mutex:
            if self._made is None:
                self._made = self._make()
            return self._made

    def _make(self) -> Any:
        if self._own is not None:
            tame(self.package, "httpx2", "httpx")
            return self._own.with_options(max_retries=0)
        from .wire import AsyncWire, make_client  # imports httpx2, which comes with the SDKs

        sdk = importlib.import_module(self.package)
        tame(self.package, "httpx2")
        timeout = self._settings.timeout
        self._wire = AsyncWire(self._engine, self._settings)
        arguments = {
            "api_key": self._key.get(),
            "base_url": self._base_url,
            "timeout": timeout,
            "max_retries": 0,
            "http_client": make_client(self._wire, timeout),
            **self._options.get(),
        }
        return self._make_client(sdk, arguments)

    @abstractmethod
    def _make_client(self, sdk: Any, arguments: dict[str, Any]) -> Any:
        """Make the client of the SDK.

        Args:
            sdk: Its package, imported.
            arguments: For the class of the client.
        """
        ...

    async def connect(self) -> None:
        """Import the SDK and make its client. Connections are made when requests need them."""
        _ = self._client

    async def aclose(self) -> None:
        """Close the connections. A client of your own stays open."""
        made, self._made = self._made, None
        if made is not None and self._own is None:
            await settle(made.close())

    def abandon(self) -> None:
        """Forget every connection."""
        self._made = None
        if self._wire is not None:
            self._wire.abandon()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._base_url!r}>"

"""Proxies: what their URLs say, and which one leads to an origin.

The rules for environment variables are those of curl and httpx, whose users expect theirs to go on working.
"""

import base64
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import unquote_to_bytes, urlsplit

from .._config import Secret
from ..errors import ConfigurationError
from .settings import EngineSettings
from .url import Origin

_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
_FORM = "scheme://host:port, or scheme://user:password@host:port"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_HOST = re.compile(r"[\x21-\x7e]+", re.ASCII)


class Credentials(NamedTuple):
    """Who we are to a proxy."""

    user: bytes
    password: bytes


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy, as one URL describes it. Its text has no credentials in it.

    Attributes:
        scheme: `http`, `https` (TLS to the proxy), `socks5` or `socks5h`. In both of the last two the proxy looks up
            the names of hosts.
        host: Its name or address, in ASCII.
        port: Its port.
        credentials: A user and a password, if the URL has them.
    """

    scheme: str
    host: str
    port: int
    credentials: Secret[Credentials] | None = None

    @property
    def is_socks(self) -> bool:
        """Whether it speaks SOCKS, and not HTTP."""
        return self.scheme.startswith("socks")

    @property
    def authorization(self) -> bytes | None:
        """The value of `Proxy-Authorization` (RFC 7617); None without credentials."""
        if self.credentials is None:
            return None
        return b"Basic " + base64.b64encode(b":".join(self.credentials.get()))

    def __str__(self) -> str:
        return f"{self.scheme}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def parse_proxy(url: str, source: str = "argument `proxy`") -> Proxy:
    """Parse the URL of a proxy.

    Args:
        url: For example `http://user:secret@proxy.example.com:3128`.
        source: Where it comes from, for the text of an error.

    Raises:
        ConfigurationError: It is no such URL. The text shows nothing of it but an unknown scheme: where the
            credentials are in a malformed URL is anybody's guess.
    """
    if not isinstance(url, str):
        raise ConfigurationError(f"{source}: expected the URL of a proxy, got {type(url).__name__}")
    if not url.isprintable():
        # Some parsers leave such characters out, so that others would see another URL.
        raise ConfigurationError(f"{source}: the URL has a control character in it")
    found = _SCHEME.match(url)
    if found is None:
        raise ConfigurationError(f"{source}: the URL has no scheme; give {_FORM}")
    scheme = found[1].lower()
    if scheme not in _PORTS:
        raise ConfigurationError(f"{source}: a proxy is reached by {', '.join(_PORTS)}, not by {scheme!r}")
    try:
        parts = urlsplit(url)
        host, port = _ascii(parts.hostname or ""), parts.port
    except ValueError:  # of the port, or of an address in brackets; its text shows them
        raise ConfigurationError(f"{source}: not a valid URL of a proxy; give {_FORM}") from None
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ConfigurationError(
            f"{source}: the URL of a proxy ends with its port; a /, ? or # in a password is written %2F, %3F or %23"
        )
    if not _HOST.fullmatch(host):
        raise ConfigurationError(f"{source}: the URL has no host; give {_FORM}")
    if not all(0 < len(label) < 64 for label in host.removesuffix(".").split(".")):
        # Below, this would be a UnicodeError out of the name lookup.
        raise ConfigurationError(f"{source}: a part of the host is empty or too long")
    if port == 0:
        raise ConfigurationError(f"{source}: a port is a number from 1 to 65535")
    userinfo, at, _ = parts.netloc.rpartition("@")
    credentials = None
    if at:
        user, _, password = userinfo.partition(":")
        credentials = Credentials(unquote_to_bytes(user), unquote_to_bytes(password))
        if scheme.startswith("socks") and max(map(len, credentials)) > 255:
            raise ConfigurationError(f"{source}: SOCKS has users and passwords of 255 bytes at most")
        if b":" in credentials.user and not scheme.startswith("socks"):
            raise ConfigurationError(f"{source}: the user must not contain a colon")
    return Proxy(scheme, host, port or _PORTS[scheme], None if credentials is None else Secret(credentials))


class Bypass:
    """The hosts that are reached without a proxy: what `NO_PROXY` says.

    Args:
        text: Entries, with commas between. `example.com` and `.example.com` both stand for this host and those below
            it; `*` for all hosts; `192.168.0.0/16` and `fd00::/8` for the addresses in them. `example.com:8080` is
            for one port, `https://example.com` for one scheme.

    Names are compared as they are: none is looked up to see if its address is in a network.
    """

    __slots__ = ("_everything", "_rules")

    def __init__(self, text: str) -> None:
        entries = [entry for entry in re.split(r"[,\s]+", text.lower()) if entry]
        self._everything = "*" in entries
        self._rules = [rule for entry in entries if (rule := _rule(entry)) is not None]

    def matches(self, origin: Origin) -> bool:
        """Whether no proxy is to be used for `origin`."""
        if self._everything:
            return True
        if not self._rules:
            return False
        host = origin.host.decode("ascii").lower().rstrip(".")
        address = _address(host)
        return any(rule.matches(origin, host, address) for rule in self._rules)


_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class _Rule(NamedTuple):
    scheme: bytes | None
    name: str
    network: _Network | None
    port: int | None

    def matches(self, origin: Origin, host: str, address: _Address | None) -> bool:
        if self.scheme not in (None, origin.scheme) or self.port not in (None, origin.port):
            return False
        if address is not None:
            return self.network is not None and address in self.network
        # "example.com" is not for "notexample.com".
        return self.network is None and (host == self.name or host.endswith(f".{self.name}"))


def _rule(entry: str) -> _Rule | None:
    scheme, separator, rest = entry.rpartition("://")
    wanted = scheme.encode("utf-8") if separator and scheme != "all" else None
    port = None
    network = _network(rest)
    if network is None:
        host, colon, digits = rest.rpartition(":")
        if colon and digits.isascii() and digits.isdigit():
            rest, port = host, int(digits)
        rest = rest.removeprefix("[").removesuffix("]")
        network = _network(rest)
    try:
        name = _ascii(rest.removeprefix("*").strip("."))
    except ValueError:
        return None  # nothing can have this name
    return _Rule(wanted, name, network, port) if name else None


def _network(text: str) -> _Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _address(text: str) -> _Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _ascii(host: str) -> str:
    return host if host.isascii() else host.encode("idna").decode("ascii")


class Proxies:
    """Which proxy leads to an origin.

    Args:
        by_scheme: The proxy for each scheme of a URL.
        bypass: What needs none.
    """

    __slots__ = ("_by_scheme", "_bypass")

    def __init__(self, by_scheme: Mapping[bytes, Proxy], bypass: Bypass | None = None) -> None:
        self._by_scheme = by_scheme
        self._bypass = bypass

    def find(self, origin: Origin) -> Proxy | None:
        """The proxy to `origin`; None if it is to be reached directly."""
        proxy = self._by_scheme.get(origin.scheme)
        if proxy is None or (self._bypass is not None and self._bypass.matches(origin)):
            return None
        return proxy

    @property
    def all(self) -> tuple[Proxy, ...]:
        """Every proxy that may be used."""
        return tuple(dict.fromkeys(self._by_scheme.values()))


def proxies_for(settings: EngineSettings) -> Proxies | None:
    """The proxies that an engine is to use; None if there are none.

    Raises:
        ConfigurationError: The URL of a proxy is wrong.
    """
    if settings.proxy is not None:
        proxy = parse_proxy(settings.proxy.get())
        return Proxies({b"http": proxy, b"https": proxy})
    if not settings.trust_env or settings.uds is not None:
        return None
    return proxies_of_environment()


def proxies_of_environment() -> Proxies | None:
    """The proxies of `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, or of the system; None without any.

    Lower case wins over upper case. On macOS and Windows the settings of the system are looked at if no such variable
    is set. In a CGI program `HTTP_PROXY` is what a client sent as the header `Proxy`, so it is not looked at there.

    Raises:
        ConfigurationError: The URL of one of them is wrong.
    """
    from urllib.request import getproxies  # loads much, and httpx has loaded it

    found = getproxies()
    by_scheme = {}
    for scheme in ("http", "https"):
        name = scheme if found.get(scheme) else "all"
        if url := found.get(name):
            source = f"the proxy of the environment for {name} URLs ({name.upper()}_PROXY)"
            by_scheme[scheme.encode()] = parse_proxy(url if "://" in url else f"http://{url}", source)
    return Proxies(by_scheme, Bypass(found.get("no", ""))) if by_scheme else None

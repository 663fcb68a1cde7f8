"""What is told to a SOCKS5 proxy (RFC 1928 and 1929) before a connection through it is used."""

from typing import TYPE_CHECKING, Any

from ..._http.proxies import Proxy
from ..._http.url import Origin
from ...errors import ConfigurationError, HTTPProxyError

if TYPE_CHECKING:
    from httpcore import AsyncNetworkStream

# How many bytes an address of each kind has; a name says it itself.
_SIZES = {0x01: 4, 0x04: 16}
_NAME = 0x03


def check_socks() -> None:
    """See that the package `socksio` is there, which knows the messages of SOCKS.

    Raises:
        ConfigurationError: It is not.
    """
    try:
        import socksio  # noqa: F401
    except ImportError as exc:
        raise ConfigurationError("a SOCKS proxy needs the package socksio: pip install 'pynector[socks]'") from exc


async def open_socks_tunnel(stream: "AsyncNetworkStream", proxy: Proxy, origin: Origin, timeout: float | None) -> None:
    """Have a proxy connect to `origin`: then `stream` leads there.

    Args:
        stream: Leads to the proxy.
        proxy: Which one it is, and who we are to it.
        origin: Where to.
        timeout: The longest silence of the proxy, in seconds.

    Raises:
        HTTPProxyError: The proxy refused, or does not speak SOCKS5.
    """
    from socksio import ProtocolError, socks5

    methods = socks5.SOCKS5AuthMethod
    method = methods.NO_AUTH_REQUIRED if proxy.credentials is None else methods.USERNAME_PASSWORD
    host = origin.host.decode("ascii")
    if len(host) > 255:
        raise HTTPProxyError(f"the name of the host is too long for the proxy {proxy}", sent=False)
    connection: Any = socks5.SOCKS5Connection()
    try:
        connection.send(socks5.SOCKS5AuthMethodsRequest([method]))
        await stream.write(connection.data_to_send(), timeout)
        # Read to the byte: a reply may come in pieces, and what follows the last one is not for us.
        reply = connection.receive_data(await _read(stream, 2, timeout))
        if reply.method != method:
            text = "asks for a user and a password" if proxy.credentials is None else "takes no user and password"
            raise HTTPProxyError(f"the proxy {proxy} {text}", sent=False)
        if proxy.credentials is not None:
            # Never in a variable: a crash report may show those.
            connection.send(socks5.SOCKS5UsernamePasswordRequest(*proxy.credentials.get()))
            await stream.write(connection.data_to_send(), timeout)
            try:
                accepted = connection.receive_data(await _read(stream, 2, timeout)).success
            except EOFError:
                accepted = False  # a blunt way to say it
            if not accepted:
                raise HTTPProxyError(f"the proxy {proxy} refused our user and password", sent=False)
        connection.send(socks5.SOCKS5CommandRequest.from_address(socks5.SOCKS5Command.CONNECT, (host, origin.port)))
        await stream.write(connection.data_to_send(), timeout)
        reply = connection.receive_data(await _read_reply(stream, timeout))
    except (ProtocolError, ValueError) as exc:
        raise HTTPProxyError(f"the proxy {proxy} does not speak SOCKS5", sent=False) from exc
    code = reply.reply_code
    if code is not socks5.SOCKS5ReplyCode.SUCCEEDED:
        final = {
            socks5.SOCKS5ReplyCode.CONNECTION_NOT_ALLOWED_BY_RULESET,
            socks5.SOCKS5ReplyCode.COMMAND_NOT_SUPPORTED,
            socks5.SOCKS5ReplyCode.ADDRESS_TYPE_NOT_SUPPORTED,
        }
        reason = code.name.lower().replace("_", " ")
        raise HTTPProxyError(
            f"the proxy {proxy} made no connection to {host}:{origin.port}: {reason}",
            sent=False,
            transient=code not in final,
        )


async def _read_reply(stream: "AsyncNetworkStream", timeout: float | None) -> bytes:
    head = await _read(stream, 5, timeout)
    # The fifth byte is the first one of the address: the length, if it is a name.
    size = 1 + head[4] if head[3] == _NAME else _SIZES.get(head[3], 1)
    return head + await _read(stream, size - 1 + 2, timeout)


async def _read(stream: "AsyncNetworkStream", count: int, timeout: float | None) -> bytes:
    data = b""
    while len(data) < count:
        more = await stream.read(count - len(data), timeout)
        if not more:
            raise EOFError("it hung up")
        data += more
    return data

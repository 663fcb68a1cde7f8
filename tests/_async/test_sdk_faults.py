"""What goes wrong between an SDK and its provider: for each fault one typed error, and a known number of requests."""

import pickle
from typing import NamedTuple

import pytest

from pynector import AsyncPynector, RetryPolicy
from pynector.errors import (
    AuthenticationError,
    ConnectionError,
    ConnectionTimeoutError,
    IncompleteStreamError,
    InvalidRequestError,
    PermissionError,
    RateLimitError,
    RequestTooLargeError,
    ResourceNotFoundError,
    SdkTransportError,
    TransportError,
)
from pynector.transport.sdk import AsyncSdkTransport
from servers.provider_server import ProviderServer

pytestmark = pytest.mark.needs("openai", "anthropic")

ONCE = RetryPolicy(max_retries=1, backoff_factor=0.01, budget=None)


class Cell(NamedTuple):
    """What a fault comes to.

    Attributes:
        error: The very class of the error; None if there is none.
        requests: How many go on the wire with one retry.
    """

    error: type[TransportError] | None
    requests: int


REFUSALS = {
    "400": Cell(InvalidRequestError, 1),
    "401": Cell(AuthenticationError, 1),
    "403": Cell(PermissionError, 1),
    "404": Cell(ResourceNotFoundError, 1),
    "408": Cell(SdkTransportError, 2),
    "413": Cell(RequestTooLargeError, 1),
    "422": Cell(InvalidRequestError, 1),
    "429": Cell(RateLimitError, 2),
    "429_after": Cell(RateLimitError, 2),
    "429_ms": Cell(RateLimitError, 2),
    "hard_quota": Cell(RateLimitError, 1),
    "500": Cell(SdkTransportError, 2),
    "503": Cell(SdkTransportError, 2),
    "503_noretry": Cell(SdkTransportError, 1),
    "400_retry": Cell(InvalidRequestError, 2),
    "502_html": Cell(SdkTransportError, 2),
    "529": Cell(SdkTransportError, 2),
    "drop": Cell(ConnectionError, 2),
    "stall_before": Cell(ConnectionTimeoutError, 2),
}
PLAIN = REFUSALS | {
    "drop_mid": Cell(ConnectionError, 2),
    "stall": Cell(ConnectionTimeoutError, 2),
    "truncate": Cell(IncompleteStreamError, 2),
    "malformed": Cell(SdkTransportError, 1),
    "error_event": Cell(SdkTransportError, 2),
    "empty": Cell(SdkTransportError, 1),
    "html": Cell(SdkTransportError, 1),
    "wrong_type": Cell(SdkTransportError, 1),
}
STREAMED = REFUSALS | {
    "drop_mid": Cell(IncompleteStreamError, 1),
    "stall": Cell(IncompleteStreamError, 1),
    "truncate": Cell(IncompleteStreamError, 1),
    "malformed": Cell(IncompleteStreamError, 1),
    "error_event": Cell(SdkTransportError, 1),
    "error_first": Cell(SdkTransportError, 2),
    "empty": Cell(IncompleteStreamError, 1),
    "html": Cell(IncompleteStreamError, 1),
    # The events are good ones, whatever they are called: gateways do this.
    "wrong_type": Cell(None, 1),
}


def client_of(provider: ProviderServer) -> AsyncPynector:
    options = provider.options()
    del options["transport_type"]
    # The time-out of the transport is for the silence of the network.
    return AsyncPynector(AsyncSdkTransport(**options, timeout=0.4), retry=ONCE)


def check(error: TransportError | None, cell: Cell, provider: ProviderServer, text: str) -> None:
    assert type(error) is (cell.error or type(None)), repr(error)
    assert provider.app.count(text) == cell.requests
    if error is None:
        return
    assert "sk-canary-key" not in f"{error!r} {error.__cause__!r}"
    assert error.attempts == cell.requests
    assert error.elapsed
    assert error.sent
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.sent) == (type(error), str(error), error.sent)
    if isinstance(error, SdkTransportError):
        assert error.provider == provider.name


@pytest.mark.parametrize("fault", PLAIN)
async def test_a_fault_of_a_plain_answer(provider: ProviderServer, fault: str) -> None:
    text = f"tell me scenario={fault}"
    async with client_of(provider) as client:
        with pytest.raises(TransportError) as caught:
            await client.request(text)
        check(caught.value, PLAIN[fault], provider, text)
        if fault[:3].isdigit():
            assert isinstance(caught.value, SdkTransportError)
            assert caught.value.status_code == int(fault[:3])
            assert caught.value.request_id or fault == "502_html"
        if fault in ("429_after", "429_ms"):
            assert caught.value.retry_after == pytest.approx(0.05)
        # The client is as good as new.
        assert (await client.request("and now")).text == "echo: and now"


@pytest.mark.parametrize("fault", STREAMED)
async def test_a_fault_of_a_streamed_answer(provider: ProviderServer, fault: str) -> None:
    text = f"tell me all scenario={fault}"
    error: TransportError | None = None
    pieces: list[str] = []
    async with client_of(provider) as client:
        try:
            async with client.stream(text) as answer:
                async for piece in answer:
                    pieces.append(piece)
        except TransportError as exc:
            error = exc
        check(error, STREAMED[fault], provider, text)
        if fault in ("drop_mid", "stall", "truncate", "malformed"):
            assert isinstance(error, IncompleteStreamError)
            # What came is there, at least all that was handed out.
            assert error.partial.startswith("".join(pieces))
            assert f"echo: {text}".startswith(error.partial)
            assert error.partial
        if fault == "wrong_type":
            assert "".join(pieces) == f"echo: {text}"
        assert (await client.request("and now")).text == "echo: and now"


@pytest.mark.parametrize("fault", ["503x1", "429_afterx1", "dropx1", "stall_beforex1"])
async def test_a_fault_that_passes_is_not_seen(provider: ProviderServer, fault: str) -> None:
    async with client_of(provider) as client:
        plain, streamed = f"plain scenario={fault}", f"streamed scenario={fault}"
        assert (await client.request(plain)).text == f"echo: {plain}"
        async with client.stream(streamed) as answer:
            assert (await answer.read()).text == f"echo: {streamed}"
        assert (provider.app.count(plain), provider.app.count(streamed)) == (2, 2)

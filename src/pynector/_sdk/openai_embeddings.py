"""Embeddings of OpenAI: what is sent, and what the answer means."""

from typing import Any, Final

from .._messages.sdk import SdkMessage
from ..errors import ConfigurationError, SdkTransportError
from .openai_reply import PROVIDER, Reply, checked_model, passed_on, usage_of
from .reading import items, text
from .request import SdkRequest

WANTED: Final = "embeddings"

_OF_ANSWERS: Final = ("tools", "tool_choice", "response_format", "stop")


def arguments_of(request: SdkRequest) -> dict[str, Any]:
    """Make the arguments for `embeddings.create`.

    Numbers are asked for as such: by itself the SDK asks for base64, which not every server knows. How freely and how
    long a model answers (`temperature`, `top_p`, `max_tokens`) is no matter here: a client has that for its others.

    Raises:
        ConfigurationError: The request has what only answers in words have.
    """
    for name in _OF_ANSWERS:
        if getattr(request, name) not in (None, ()):
            raise ConfigurationError(
                f"{name} is for answers in words: leave it out with `input`, which is to be embedded"
            )
    arguments: dict[str, Any] = {"model": checked_model(request), "input": list(request.input or ())}
    return {**arguments, "encoding_format": "float", **passed_on(request)}


def message_of(reply: Reply, request: SdkRequest) -> SdkMessage:
    """Make a message of the answer: one vector for each text, in the order of the texts.

    Raises:
        SdkTransportError: The answer is something else, or has not as many vectors.
    """
    answer = reply.parse(WANTED)
    found = sorted(items(answer, "data"), key=_index)
    vectors = [items(each, "embedding") for each in found]
    if not vectors:
        raise reply.unexpected(WANTED)
    wanted = len(request.input or ())
    if len(vectors) != wanted or not all(vectors):
        raise SdkTransportError(
            f"{PROVIDER}: {wanted} texts were sent, and {sum(map(bool, vectors))} vectors came",
            provider=PROVIDER,
            status_code=reply.raw.status_code,
            request_id=reply.request_id,
        )
    return SdkMessage(
        model=text(answer, "model"),
        usage=usage_of(getattr(answer, "usage", None)),
        embeddings=vectors,
        request_id=reply.request_id,
        headers=reply.headers,
        raw=answer,
    )


def _index(embedding: object) -> int:
    found = getattr(embedding, "index", None)
    return found if isinstance(found, int) else 0

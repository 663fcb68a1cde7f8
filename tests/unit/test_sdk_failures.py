"""What the versions of an SDK tell in different ways is one error here; and what they log shows no credential."""

import json
from typing import Any

import pytest

from pynector import errors
from pynector._policies.fatal import fatal_reason, is_hard_quota
from pynector._sdk.failures import translate
from pynector._sdk.settings import hidden


class Refusal(Exception):
    """Built as the errors of the SDKs are. Older ones have nothing but the body."""

    def __init__(self, body: dict[str, Any], **attributes: Any) -> None:
        super().__init__("refused")
        self.status_code = 429
        self.body = body
        vars(self).update(attributes)


SPENT = {
    "type": "error",
    "error": {
        "type": "rate_limit_error",
        "message": "spent",
        "details": {"error_code": "contract_spend_limit_reached"},
    },
}


@pytest.mark.parametrize("attributes", [{}, {"error_code": "contract_spend_limit_reached"}], ids=["older", "newer"])
def test_the_finer_code_of_a_refusal(attributes: dict[str, Any]) -> None:
    error = translate(Refusal(SPENT, **attributes), "anthropic")
    assert isinstance(error, errors.RateLimitError)
    assert error.code == "contract_spend_limit_reached"
    assert not error.transient
    assert is_hard_quota(error)  # neither tried again...
    assert fatal_reason(error) is not None  # ... nor is anything else of its batch sent


@pytest.mark.parametrize("details", [None, [], "text", {"error_code": 7}])
def test_a_refusal_without_a_finer_code(details: object) -> None:
    body = {"error": {"type": "rate_limit_error", "message": "slower", "details": details}}
    error = translate(Refusal(body), "anthropic")
    assert isinstance(error, errors.RateLimitError)
    assert error.code == "rate_limit_error"
    assert error.transient
    assert not is_hard_quota(error)


class Told(Exception):
    """Built as what the SDK of OpenAI raises for an error in the middle of a stream."""

    def __init__(self, body: object, code: str | None = None) -> None:
        super().__init__("An error occurred during streaming")
        self.message, self.body, self.code = self.args[0], body, code


@pytest.mark.parametrize(
    ("code", "cls", "status", "transient"),
    [
        ("429", errors.RateLimitError, 429, True),
        ("401", errors.AuthenticationError, 401, False),
        ("502", errors.SdkTransportError, 502, True),
        ("1001", errors.SdkTransportError, None, False),
        ("200", errors.SdkTransportError, None, False),
        ("\u0664\u0664\u0664", errors.SdkTransportError, None, False),
    ],
)
def test_a_status_that_is_a_code(code: str, cls: type[Exception], status: int | None, transient: bool) -> None:
    """As gateways send it, that hand on what another server has said."""
    error = translate(Told({"message": "slower", "code": code}, code), "openai")
    assert type(error) is cls
    assert isinstance(error, errors.SdkTransportError)
    assert (error.status_code, error.code, error.transient) == (status, code, transient)
    assert "slower" in str(error)


def test_an_error_that_is_a_sentence() -> None:
    assert "the model has gone" in str(translate(Told("the model has gone"), "openai"))


def test_an_answer_that_is_too_deep_to_be_read() -> None:
    with pytest.raises(RecursionError) as caught:
        json.loads("[" * 100_000)
    error = translate(caught.value, "openai")
    assert type(error) is errors.SdkTransportError
    assert error.__cause__ is caught.value


def test_a_status_that_is_neither_a_success_nor_an_error() -> None:
    error = translate(Refusal({}, status_code=304), "openai")
    assert isinstance(error, errors.SdkTransportError)
    assert (error.status_code, error.transient) == (304, False)


def test_headers_with_a_credential_are_sent_and_not_shown() -> None:
    headers = hidden({"X-Api-Token": "sk-canary", "X-Own": "1"})
    assert repr(headers) == "{'X-Api-Token': 'REDACTED', 'X-Own': '1'}"
    assert f"{headers}" == repr(headers)
    assert headers["X-Api-Token"] == "sk-canary"
    assert headers["X-Api-Token"].encode() == b"sk-canary"
    assert json.dumps(headers) == '{"X-Api-Token": "sk-canary", "X-Own": "1"}'

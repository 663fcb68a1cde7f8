"""What ends a whole batch, and what only ends an item."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynector import errors
from pynector._messages.http import HttpMessage
from pynector._policies import fatal as fatal_module
from pynector._policies.fatal import Fatal, fatal_reason, is_hard_quota


def answer(status, body=b"", headers=None):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = HttpMessage("POST", "https://me:pw@host/v1?api_key=hunter2", headers={"Authorization": "Bearer sk-abc"})
    return HttpMessage.response(status_code=status, content=content, headers=headers or {}, request=request)


def failure(status, body=b"", headers=None, retry_after=None):
    return errors.status_error(answer(status, body, headers), retry_after=retry_after)


OPENAI = {"error": {"message": "You exceeded your current quota", "type": "insufficient_quota", "param": None}}
HARD = [
    OPENAI,
    {"error": {"code": "insufficient_quota"}},
    {"error": {"code": "project_spend_limit_exceeded", "type": "rate_limit_error"}},
    {"error": {"code": "billing_hard_limit_reached", "type": None}},
    {"error": {"type": "exceeded_current_quota_error", "message": "suspended"}},
    {"type": "error", "error": {"type": "rate_limit_error", "details": {"error_code": "enforced_spend_limit_reached"}}},
    {"error": "insufficient_quota"},
    {"code": "InsufficientQuota"},
    {"type": "https://api.example.com/problems/insufficient-quota", "title": "No"},
    {"type": "urn:problem-type:example:insufficientQuota"},
    {"detail": {"code": "insufficient_credits"}},
    {"detail": {"error": {"type": "terminal_quota_exhausted"}}},
    {"errors": [{"reason": "other"}, {"reason": "insufficient_quota"}]},
    [{"error": {"code": 429, "details": [{"reason": "INSUFFICIENT_QUOTA"}]}}],
]
SOFT = [
    {"error": {"message": "insufficient_quota", "type": "rate_limit_error", "code": "rate_limit_exceeded"}},
    # Google: its text speaks of quota and billing, and it is over in 58 seconds.
    {
        "error": {
            "code": 429,
            "message": "You exceeded your current quota, please check your plan and billing details.",
            "status": "RESOURCE_EXHAUSTED",
            "details": [{"@type": "QuotaFailure", "violations": [{"quotaId": "PerMinute"}]}, {"retryDelay": "58s"}],
        }
    },
    {"error": {"code": 429}},
    {"error": {"code": "x" * 1000 + "/insufficient_quota"}},
    {"error": None},
    {},
    [],
    None,
    "insufficient_quota",
    429,
]


@pytest.mark.parametrize("body", HARD, ids=json.dumps)
def test_a_hard_quota(body):
    assert is_hard_quota(answer(429, body))
    assert is_hard_quota(failure(429, body))
    assert is_hard_quota(failure(429, body, retry_after=1.0)), "whatever Retry-After says"
    assert is_hard_quota(failure(400, body)), "some servers answer 400, 402 or 403"
    assert fatal_reason(failure(429, body)).startswith("429: the quota is used up (")
    assert not is_hard_quota(failure(503, body)), "a server that fails may say anything"
    assert not is_hard_quota(answer(200, body)), "an answer may well speak of a quota"


@pytest.mark.parametrize("body", SOFT, ids=lambda body: json.dumps(body)[:60])
def test_a_rate_limit(body):
    assert not is_hard_quota(answer(429, body))
    assert fatal_reason(failure(429, body)) is None


@pytest.mark.parametrize("code", ["quota_exceeded", "QUOTA_EXCEEDED", "usage_limit_reached", "dailyLimitExceeded"])
def test_an_unsure_code_counts_unless_the_server_says_when_it_is_over(code):
    body = {"error": {"code": code}}
    assert is_hard_quota(failure(429, body))
    assert is_hard_quota(answer(429, body))
    assert not is_hard_quota(failure(429, body, retry_after=60.0))
    assert is_hard_quota(failure(429, body, retry_after=86_400.0))
    assert not is_hard_quota(answer(429, body, {"Retry-After": "60"}))
    assert not is_hard_quota(answer(429, body, {"Retry-After-Ms": "60000"}))
    assert not is_hard_quota(answer(429, body, {"Retry-After": "Tue, 14 Nov 2023 22:13:30 GMT"}))
    assert is_hard_quota(answer(429, body, {"Retry-After": "86400"}))
    assert is_hard_quota(answer(429, body, {"Retry-After-Ms": "86400000"}))
    assert is_hard_quota(answer(429, body, {"Retry-After": "nan"}))
    assert not is_hard_quota(failure(403, body)), "403 may be about one folder that is full"


def test_every_code_is_found():
    for code in [*fatal_module._HARD.values(), *fatal_module._UNSURE.values()]:
        for spelling in (code, code.upper(), code.title().replace("_", ""), code.replace("_", "-")):
            assert is_hard_quota(answer(429, {"error": {"code": spelling}})), spelling


def test_a_long_body_is_not_parsed():
    long = json.dumps({"error": {"code": "insufficient_quota"}, "padding": "x" * 70_000}).encode()
    assert not is_hard_quota(answer(429, long))
    assert is_hard_quota(answer(429, long[:60_000] + b'"}'))


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 60_000,
        b'{"error":' * 6_000,
        b'{"error":' + b"9" * 10_000 + b"}",
        b"\xff\xfe\x00",
        b'{"error": {"code": "insufficient_quota"',
        json.dumps({"errors": [{"code": "no"}] * 1000 + [{"code": "insufficient_quota"}]}).encode(),
    ],
)
def test_garbage_is_no_quota(body):
    assert not is_hard_quota(answer(429, body))


def test_nesting_is_followed_to_a_point_and_no_further():
    body = {"code": "insufficient_quota"}
    for _ in range(200):
        body = {"error": body}
    assert not is_hard_quota(answer(429, body))


class Sdk(Exception):
    """As the errors of the SDKs look."""

    def __init__(self, **fields):
        super().__init__("no")
        vars(self).update(fields)


class Unread:
    """A response whose body was not read: its properties raise."""

    status_code = 429
    headers = None

    @property
    def content(self):
        raise RuntimeError("not read")


@pytest.mark.parametrize(
    "error",
    [
        Sdk(status_code=429, code="insufficient_quota"),
        Sdk(status_code=429, code=None, type="insufficient_quota"),
        Sdk(status_code=429, code=None, body={"code": "insufficient_quota"}),
        Sdk(status_code=429, body={"error": {"details": {"error_code": "enforced_spend_limit_reached"}}}),
        Sdk(status_code=429, type="rate_limit_error", error_code="contract_spend_limit_reached"),
        Sdk(status_code=429, details={"error_code": "enforced_spend_limit_reached"}, response=Unread()),
        Sdk(code="insufficient_quota"),
        Sdk(response=answer(429, OPENAI)),
        errors.RateLimitError(status_code=429, code="insufficient_quota"),
    ],
    ids=lambda error: str(sorted(vars(error))),
)
def test_errors_of_sdks(error):
    assert is_hard_quota(error)
    assert "quota is used up" in fatal_reason(error)


@pytest.mark.parametrize(
    "thing", [None, 429, object(), Unread(), ValueError("insufficient_quota"), Sdk(response=Unread())]
)
def test_what_says_nothing(thing):
    assert not is_hard_quota(thing)


@pytest.mark.parametrize(
    ("error", "begins"),
    [
        (failure(401), "401: the credentials"),
        (Sdk(status_code=401), "401: the credentials"),
        (errors.AuthenticationError(status_code=401), "401: the credentials"),
        (errors.AuthenticationError(), "the credentials"),
        (errors.SdkTransportError(status_code=402), "402: the provider asks for payment"),
        (errors.RateLimitError(code="insufficient_quota"), "the quota is used up (insufficient_quota)"),
    ],
)
def test_reasons(error, begins):
    assert fatal_reason(error).startswith(begins)


@pytest.mark.parametrize(
    "error",
    [
        *(failure(status) for status in (400, 402, 403, 404, 407, 408, 429, 500, 503, 529)),
        errors.AuthenticationError(status_code=403),
        errors.ConnectionError(),
        errors.TimeoutError(),
        errors.SerializationError(),
        errors.CircuitOpenError(),
        ValueError(),
    ],
    ids=repr,
)
def test_what_ends_only_the_item(error):
    assert fatal_reason(error) is None


def test_reasons_hold_nothing_of_the_request_or_the_server():
    body = {"error": {"code": "insufficient_quota", "message": "for key sk-live-123456"}, "key": "sk-live-123456"}
    fatal = Fatal(1)
    for reason in (
        fatal_reason(failure(429, body)),
        fatal_reason(failure(401, body)),
        fatal.observe(("https://host", "sk-live-123456"), failure(403, {"error": "sk-live-123456"})),
    ):
        assert reason is not None
        assert not any(secret in reason for secret in ("sk-", "pw", "hunter2", "host"))


# --- in a row


def test_many_refusals_in_a_row():
    fatal = Fatal()
    for number in range(9):
        assert fatal.observe("key", failure((402, 403)[number % 2])) is None
    assert fatal.observe("key", failure(403)) == (
        "403: the server refused 10 times in a row, and answered nothing else in between"
    )


@pytest.mark.parametrize("between", [None, failure(404), failure(400)])
def test_anything_else_breaks_the_row(between):
    fatal = Fatal(limit=3, proven_limit=3)
    for _ in range(10):
        assert fatal.observe("key", failure(403)) is None
        assert fatal.observe("key", failure(403)) is None
        assert fatal.observe("key", between) is None


@pytest.mark.parametrize(
    "between", [failure(429), failure(408), failure(503), errors.ConnectionError(), errors.TimeoutError(), ValueError()]
)
def test_what_says_nothing_of_credentials_neither_breaks_nor_counts(between):
    fatal = Fatal(limit=3)
    for _ in range(2):
        assert fatal.observe("key", failure(403)) is None
        assert fatal.observe("key", between) is None
    assert fatal.observe("key", failure(403)) is not None


def test_rows_are_kept_apart():
    fatal = Fatal(limit=2)
    for number in range(500):
        assert fatal.observe(number, failure(403)) is None
    assert fatal.observe(7, failure(403)) is not None
    assert fatal.observe(8, None) is None
    assert fatal.observe(9, failure(403)) is not None


def test_where_something_was_let_through_it_takes_more():
    fatal = Fatal(limit=3)
    fatal.observe("key", None)
    reasons = [fatal.observe("key", failure(403)) for _ in range(30)]
    assert reasons[:29] == [None] * 29
    assert reasons[29] is not None


def test_what_is_fatal_at_once_needs_no_row():
    fatal = Fatal()
    assert fatal.observe("key", None) is None
    assert "401" in fatal.observe("key", failure(401))
    assert "insufficient_quota" in fatal.observe("key", failure(429, OPENAI))


def test_a_crawl_of_many_hosts_needs_little_memory():
    fatal = Fatal()
    for number in range(10_000):
        fatal.observe(number, None if number % 2 else failure(403))
    assert len(fatal._rows) <= 1_024


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["error", "errors", "code", "type", "detail", "details", "reason", "x"]), inner, max_size=5
        )
    ),
    max_leaves=30,
)


@given(st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()), st.integers(100, 599))
def test_no_body_makes_it_raise(body, status):
    message = answer(status, body)
    assert is_hard_quota(message) in (True, False)
    reason = fatal_reason(errors.status_error(message))
    assert reason is None or reason.startswith(str(status))


@given(json_values, json_values, json_values, json_values)
def test_no_attribute_makes_it_raise(code, body, response, status):
    error = Sdk(status_code=status, code=code, type=code, body=body, details=body, response=response, headers=body)
    assert is_hard_quota(error) in (True, False)
    Fatal().observe("key", error)

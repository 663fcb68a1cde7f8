"""What log lines show of values that are no plain text, and of what other libraries log."""

import logging
from typing import Any

import pytest

from pynector._telemetry.foreign import tame
from pynector._telemetry.redactor import redact_field
from pynector.telemetry import add_redactor, get_telemetry, remove_redactor

SECRET = "canary7f3a91cb20"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"Authorization": SECRET, "Accept": "*/*"}, {"Authorization": "REDACTED", "Accept": "*/*"}),
        ({b"X-Api-Key": SECRET.encode()}, {b"X-Api-Key": "REDACTED"}),
        ({"user": {"password": SECRET, "age": 7}}, {"user": {"password": "REDACTED", "age": 7}}),
        ([("Cookie", SECRET), ("Accept", "*/*")], [("Cookie", "REDACTED"), ("Accept", "*/*")]),
        (((b"cookie", SECRET.encode()),), ((b"cookie", "REDACTED"),)),
        ([f"https://me:{SECRET}@h/?api_key={SECRET}"], ["https://REDACTED:REDACTED@h/?api_key=REDACTED"]),
        ({"tokens": {"token": [SECRET, SECRET]}}, {"tokens": {"token": "REDACTED"}}),
        ({f"token={SECRET}"}, ["token=REDACTED"]),
        ([{"error": ValueError(f"token={SECRET}")}], [{"error": "ValueError: token=REDACTED"}]),
        ({"count": 3, "ok": True, "none": None}, {"count": 3, "ok": True, "none": None}),
        (("one", "two", "three"), ("one", "two", "three")),
    ],
)
def test_values_that_have_others_in_them(value: Any, shown: Any) -> None:
    assert redact_field("value", value) == shown


def test_a_value_that_has_itself_in_it() -> None:
    endless: dict[str, Any] = {"password": SECRET}
    endless["itself"] = endless
    text = repr(redact_field("value", endless))
    assert SECRET not in text
    assert "REDACTED" in text


def test_fields_of_a_line(caplog: pytest.LogCaptureFixture) -> None:
    _, logger = get_telemetry("unit")
    add_redactor(hide := lambda text: text.replace("Ada", "somebody"))
    try:
        logger.warning("sent", headers={"Authorization": SECRET}, names=["Ada"])
    finally:
        remove_redactor(hide)
    (record,) = caplog.records
    assert vars(record)["headers"] == {"Authorization": "REDACTED"}
    assert vars(record)["names"] == ["somebody"]


class Client:
    """Is shown as its URL."""

    def __str__(self) -> str:
        return f"http://me:{SECRET}@h/?api_key={SECRET}"


def test_what_a_library_logs(caplog: pytest.LogCaptureFixture) -> None:
    library = logging.getLogger("some_sdk._client")
    tame("some_sdk")
    tame("some_sdk")
    assert len(library.filters) == 1
    with caplog.at_level("DEBUG"):
        library.debug("Request: %s", {"headers": {"X-Api-Key": SECRET}, "json_data": {"text": SECRET}, "files": None})
        library.debug("%s %d in %.1f s", Client(), 401, 0.5)
        library.debug(f"token={SECRET}, 100% done")
        try:
            raise ValueError(f"for url 'http://h/?api_key={SECRET}'")
        except ValueError:
            library.debug("failed", exc_info=True)
    texts = [record.getMessage() for record in caplog.records]
    assert texts == [
        "Request: {'headers': {'X-Api-Key': 'REDACTED'}, 'json_data': 'REDACTED', 'files': None}",
        "http://REDACTED:REDACTED@h/?api_key=REDACTED 401 in 0.5 s",
        "token=REDACTED, 100% done",
        "failed",
    ]
    assert "ValueError: for url 'http://h/?api_key=REDACTED" in caplog.text
    assert SECRET not in caplog.text + repr([vars(record) for record in caplog.records])


def test_what_a_library_logs_to_a_handler_that_raises() -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError

    library = logging.getLogger("other_sdk")
    library.addHandler(handler := Broken())
    try:
        with pytest.raises(RuntimeError):
            library.warning(f"token={SECRET}")
        tame("other_sdk", redacted=False)
        library.warning(f"token={SECRET}")
        assert library.filters == []
        tame("other_sdk")
        assert len(library.filters) == 1
    finally:
        library.removeHandler(handler)

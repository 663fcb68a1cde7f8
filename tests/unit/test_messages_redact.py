"""What is taken out of URLs and texts, and what stays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynector._messages.redact import redact_text, redact_url


@pytest.mark.parametrize(
    ("url", "redacted"),
    [
        ("https://h/p", "https://h/p"),
        ("https://h/p?limit=3&page=2#top", "https://h/p?limit=3&page=2#top"),
        ("https://me:pw@h:8080/p", "https://REDACTED:REDACTED@h:8080/p"),
        ("https://token@h", "https://REDACTED:REDACTED@h"),
        ("https://me:p@w@h/p", "https://REDACTED:REDACTED@h/p"),
        ("https://me:pa/ss@h/p", "https://REDACTED:REDACTED@h/p"),
        ("//me:pw@h/p", "//REDACTED:REDACTED@h/p"),
        ("me:pw@proxy:3128", "REDACTED:REDACTED@proxy:3128"),
        ("socks5://me:pw@h", "socks5://REDACTED:REDACTED@h"),
        ("https://h/@me", "https://h/@me"),
        ("https://h:8080/@me", "https://h:8080/@me"),
        ("https://[::1]/@me", "https://[::1]/@me"),
        ("https://[::1]:80/@me", "https://[::1]:80/@me"),
        ("https://h/p?mail=a@b.c", "https://h/p?mail=a@b.c"),
        ("/users/@me", "/users/@me"),
        ("/a?x=1&API_Key=s&y=2", "/a?x=1&API_Key=REDACTED&y=2"),
        ("/a?X-Amz-Signature=s&X-Amz-Date=1", "/a?X-Amz-Signature=REDACTED&X-Amz-Date=1"),
        ("/a?client%5Fsecret=s", "/a?client%5Fsecret=REDACTED"),
        ("/a?user[password]=s;b=1", "/a?user[password]=REDACTED;b=1"),
        ("/cb#access_token=s&state=1", "/cb#access_token=REDACTED&state=1"),
        ("/a?token=&b", "/a?token=&b"),
        ("/a?token=s=t", "/a?token=REDACTED"),
        ("", ""),
    ],
)
def test_redact_url(url, redacted):
    assert redact_url(url) == redacted
    assert redact_url(redacted) == redacted


@pytest.mark.parametrize(
    "name",
    "token api_key apikey apiKey key access_token accessToken refresh_token id_token signature sig password secret "
    "X-Amz-Signature X-Amz-Security-Token X-Goog-Signature AWSAccessKeyId client_secret auth".split(),
)
def test_sensitive_parameters(name):
    assert redact_url(f"https://h/?a=1&{name}=hunter2&b=2") == f"https://h/?a=1&{name}=REDACTED&b=2"


@pytest.mark.parametrize("name", "page limit keyword author tokens monkey design".split())
def test_other_parameters_stay(name):
    assert redact_url(f"https://h/?{name}=1") == f"https://h/?{name}=1"


@given(st.text(max_size=60))
def test_any_text_is_taken_and_redacting_twice_changes_nothing(text):
    once = redact_url(text)
    assert redact_url(once) == once


@given(st.text("abcXYZ019:/?#@", min_size=1, max_size=12))
def test_a_password_never_survives(password):
    assert "hunter2" not in redact_url(f"https://me:hunter2{password}@host/path")


@pytest.mark.parametrize(
    "text",
    [
        '{"access_token": "hunter2hunter2"}',
        '{"password":"hunter2hunter2',
        "api_key=hunter2hunter2&x=1",
        "Authorization: Bearer hunter2hunter2",
        "Bearer hunter2hunter2",
        "your key sk-hunter2hunter2 is wrong",
    ],
)
def test_redact_text(text):
    assert "hunter2" not in redact_text(text)


def test_harmless_text_stays():
    text = '{"error": "no such user", "id": 7}'
    assert redact_text(text) == text

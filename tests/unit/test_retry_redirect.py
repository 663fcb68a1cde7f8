"""Where redirects lead, and what stays behind."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynector._messages.headers import Headers
from pynector._policies.redirect import next_request
from pynector.errors import HTTPRedirectError

URL = "https://a.example/dir/page?x=1"


def step(location="/other", *, method="GET", url=URL, status=302, headers=None, has_body=False):
    return next_request(
        method=method,
        url=url,
        headers=Headers(headers),
        has_body=has_body,
        status_code=status,
        location=location,
    )


@pytest.mark.parametrize("status", [200, 201, 300, 304, 305, 306, 400, 500])
def test_other_statuses_are_none(status):
    assert step(status=status) is None


@pytest.mark.parametrize("location", [None, "", "  "])
def test_without_location_it_is_no_redirect(location):
    assert step(location) is None


@pytest.mark.parametrize(
    ("status", "method", "next_method", "drops"),
    [
        (301, "POST", "GET", True),
        (302, "POST", "GET", True),
        (303, "POST", "GET", True),
        (307, "POST", "POST", False),
        (308, "POST", "POST", False),
        (301, "PUT", "PUT", False),
        (302, "DELETE", "DELETE", False),
        (303, "PUT", "GET", True),
        (303, "HEAD", "HEAD", False),
        (302, "HEAD", "HEAD", False),
        (301, "GET", "GET", False),
        (303, "GET", "GET", True),
    ],
)
def test_methods_and_bodies(status, method, next_method, drops):
    headers = {"Content-Type": "text/plain", "Content-Length": "3", "Accept": "*/*"}
    result = step(status=status, method=method, headers=headers, has_body=True)
    assert (result.method, result.drop_body) == (next_method, drops)
    assert ({b"content-type", b"content-length", b"transfer-encoding"} <= result.drop_headers) is drops
    assert b"accept" not in result.drop_headers


def test_an_empty_body_leaves_its_headers_too():
    result = step(method="POST", headers={"Content-Length": "0"})
    assert not result.drop_body
    assert b"content-length" in result.drop_headers


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/other", "https://a.example/other"),
        ("other", "https://a.example/dir/other"),
        ("../up", "https://a.example/up"),
        ("?y=2", "https://a.example/dir/page?y=2"),
        ("#part", "https://a.example/dir/page?x=1#part"),
        ("//b.example/p", "https://b.example/p"),
        ("https://b.example:444/p", "https://b.example:444/p"),
        ("HTTPS://B.example/P", "HTTPS://B.example/P"),
        ("https:///path", "https://a.example/path"),
        ("/a b", "https://a.example/a%20b"),
        ("/a%20b%C3%A9", "https://a.example/a%20b%C3%A9"),
        ("/caf\xc3\xa9", "https://a.example/caf%C3%A9"),
        ("/日", "https://a.example/%E6%97%A5"),
        (" /x\r\nEvil: 1", "https://a.example/x%0D%0AEvil:%201"),
    ],
)
def test_targets(location, target):
    result = step(location)
    assert result.url.lower() == target.lower()


def test_the_fragment_is_inherited():
    assert step("/x", url=URL + "#part").url == "https://a.example/x#part"
    assert step("/x#own", url=URL + "#part").url == "https://a.example/x#own"


SECRETS = {
    "Authorization": "Bearer t",
    "Proxy-Authorization": "Basic t",
    "Cookie": "a=1",
    "X-Api-Key": "k",
    "Traceparent": "00-1-2-3",
    "Host": "a.example",
    "Accept": "*/*",
}


@pytest.mark.parametrize(
    ("url", "location"),
    [
        (URL, "https://b.example/"),
        (URL, "https://a.example:8443/"),
        (URL, "https://sub.a.example/"),
        ("http://a.example/", "https://b.example/"),
        ("http://a.example:8080/", "https://a.example/"),
        ("http://a.example/", "https://a.example:8443/"),
        ("http://a.example/", "http://b.example/"),
    ],
)
def test_secrets_stay_with_their_origin(url, location):
    result = step(location, url=url, headers=SECRETS)
    names = {name.lower().encode() for name in SECRETS}
    assert result.drop_headers == names - {b"accept"}


@pytest.mark.parametrize(
    ("url", "location"), [(URL, "/x"), (URL, "https://A.EXAMPLE:443/x"), ("http://a.example:80/", "http://a.example/x")]
)
def test_the_same_origin_keeps_everything(url, location):
    assert step(location, url=url, headers=SECRETS).drop_headers == frozenset()


def test_an_upgrade_to_https_keeps_credentials():
    result = step("https://a.example/x", url="http://a.example/", headers=SECRETS)
    assert result.drop_headers == {b"host", b"traceparent"}


@pytest.mark.parametrize(
    ("location", "why"),
    [
        ("http://a.example/", "leads from https down to http://a.example/"),
        ("http://b.example/?token=hunter2", "down to http://b.example/\\?token=REDACTED"),
        ("ftp://a.example/", "its scheme 'ftp' is neither http nor https"),
        ("javascript:alert(1)", "its scheme 'javascript'"),
        ("file:///etc/passwd", "its scheme 'file'"),
        ("http:///path", "its target names no host"),
        ("https://me:hunter2@b.example/", "its target has credentials in it"),
        ("https://me@b.example/", "its target has credentials in it"),
        ("https://b.example:port/", "is not a URL"),
        ("https://[::1/", "is not a URL"),
        ("https://b.example:99999/", "is not a URL"),
    ],
)
def test_refused(location, why):
    with pytest.raises(HTTPRedirectError, match=why) as caught:
        step(location, url="https://a.example/?api_key=hunter2")
    assert "hunter2" not in str(caught.value)
    assert (caught.value.method, caught.value.url) == ("GET", "https://a.example/?api_key=REDACTED")


@given(st.text(max_size=30))
def test_any_location_is_followed_or_refused(location):
    try:
        result = step(location, headers=SECRETS)
    except HTTPRedirectError:
        return
    if result is not None:
        assert result.url.isascii()
        assert result.url.lower().startswith("https://")

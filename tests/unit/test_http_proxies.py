"""What the URLs of proxies and the variables of the environment say."""

import dataclasses
import pickle

import pytest

from pynector._config import Secret
from pynector._http.proxies import Bypass, Proxies, parse_proxy, proxies_for, proxies_of_environment
from pynector._http.settings import EngineSettings
from pynector._http.url import Origin, parse_url
from pynector.errors import ConfigurationError


def origin(url: str) -> Origin:
    return parse_url(url).target.origin


@pytest.mark.parametrize(
    ("url", "scheme", "host", "port", "text"),
    [
        ("http://proxy.example:3128", "http", "proxy.example", 3128, "http://proxy.example:3128"),
        ("http://proxy.example", "http", "proxy.example", 80, "http://proxy.example:80"),
        ("HTTPS://Proxy.Example/", "https", "proxy.example", 443, "https://proxy.example:443"),
        ("socks5://10.0.0.1", "socks5", "10.0.0.1", 1080, "socks5://10.0.0.1:1080"),
        ("socks5h://[::1]:9050", "socks5h", "::1", 9050, "socks5h://[::1]:9050"),
        ("http://münchen.example:1", "http", "xn--mnchen-3ya.example", 1, "http://xn--mnchen-3ya.example:1"),
    ],
)
def test_the_url_of_a_proxy(url: str, scheme: str, host: str, port: int, text: str) -> None:
    proxy = parse_proxy(url)
    assert (proxy.scheme, proxy.host, proxy.port, str(proxy)) == (scheme, host, port, text)
    assert proxy.credentials is None
    assert proxy.authorization is None
    assert proxy.is_socks is scheme.startswith("socks")


@pytest.mark.parametrize(
    ("userinfo", "user", "password"),
    [
        ("me:pw", b"me", b"pw"),
        ("me", b"me", b""),
        (":pw", b"", b"pw"),
        ("me:p:w", b"me", b"p:w"),
        ("me:p@w", b"me", b"p@w"),
        ("m%40e:p%2Fw%23%25", b"m@e", b"p/w#%"),
        ("mé:pẃ", "mé".encode(), "pẃ".encode()),
    ],
)
def test_who_we_are_to_a_proxy(userinfo: str, user: bytes, password: bytes) -> None:
    proxy = parse_proxy(f"socks5://{userinfo}@proxy.example:1")
    assert proxy.credentials is not None
    assert proxy.credentials.get() == (user, password)
    assert str(proxy) == "socks5://proxy.example:1"


def test_basic_authorization() -> None:
    assert parse_proxy("http://Aladdin:open%20sesame@proxy").authorization == b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "the URL has no scheme"),
        ("me:s3cr3t@proxy:3128", "the URL has no scheme; give scheme://host:port"),
        ("ftp://me:s3cr3t@proxy", "reached by http, https, socks5, socks5h, not by 'ftp'"),
        ("socks4://me:s3cr3t@proxy", "not by 'socks4'"),
        ("http://", "has no host"),
        ("http://me:s3cr3t@", "has no host"),
        ("http://me:s3cr3t@:3128", "has no host"),
        ("http://me:s3cr3t@pro xy:3128", "has no host"),
        ("http://me:s3cr3t@proxy..example:3128", "a part of the host is empty or too long"),
        (f"http://me:s3cr3t@{'a' * 64}.example", "a part of the host is empty or too long"),
        ("http://me:s3cr3t@proxy:port", "not a valid URL of a proxy"),
        ("http://me:s3cr3t@proxy:99999", "not a valid URL of a proxy"),
        ("http://me:s3cr3t@proxy:0", "a port is a number from 1 to 65535"),
        ("http://me:s3cr3t@[::1", "not a valid URL of a proxy"),
        (f"http://me:s3cr3t@{'ü' * 64}.example", "not a valid URL of a proxy"),
        ("http://me:s3c/r3t@proxy:3128", "not a valid URL of a proxy"),
        ("http://me:12/s3cr3t@proxy:3128", "is written %2F, %3F or %23"),
        ("http://me:12#s3cr3t@proxy:3128", "is written %2F, %3F or %23"),
        ("http://proxy:3128/?s3cr3t=1", "ends with its port"),
        ("http://m%3Ae:s3cr3t@proxy:3128", "the user must not contain a colon"),
        (f"socks5://me:{'s3cr3t' * 50}@proxy", "255 bytes at most"),
        (b"http://me:s3cr3t@proxy", "expected the URL of a proxy, got bytes"),
    ],
)
def test_urls_of_proxies_that_are_wrong(url: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_proxy(url)
    assert message in str(caught.value)
    assert str(caught.value).startswith("argument `proxy`: ")
    for secret in ("s3c", "r3t"):
        assert secret not in str(caught.value)
    assert caught.value.__cause__ is None


def test_credentials_do_not_show() -> None:
    proxy = parse_proxy("http://me:s3cr3t@proxy:3128")
    assert "s3cr3t" not in f"{proxy} {proxy!r} {dataclasses.asdict(proxy)} {Proxies({b'http': proxy})!r}"
    with pytest.raises(TypeError, match="a Secret cannot be pickled"):
        pickle.dumps(proxy)


@pytest.mark.parametrize(
    ("entries", "url", "direct"),
    [
        ("", "http://example.com", False),
        ("*", "http://example.com", True),
        ("other.org, *", "http://example.com", True),
        # names
        ("example.com", "http://example.com", True),
        ("example.com", "https://EXAMPLE.com:8443", True),
        ("Example.COM", "http://example.com", True),
        ("example.com", "http://www.example.com", True),
        ("example.com", "http://a.b.example.com", True),
        ("example.com", "http://notexample.com", False),
        ("example.com", "http://example.com.evil.org", False),
        ("example.com", "http://example.com./", True),
        ("example.com.", "http://example.com", True),
        (".example.com", "http://www.example.com", True),
        (".example.com", "http://example.com", True),
        ("*.example.com", "http://www.example.com", True),
        ("www.example.com", "http://example.com", False),
        ("a.org,example.com", "http://example.com", True),
        ("a.org example.com", "http://example.com", True),
        (" a.org , , example.com ", "http://example.com", True),
        ("münchen.example", "http://www.xn--mnchen-3ya.example", True),
        (f"{'ü' * 64}.example, example.com", "http://example.com", True),
        ("localhost", "http://localhost:8000", True),
        ("localhost", "http://127.0.0.1:8000", False),
        (".", "http://example.com", False),
        # ports and schemes
        ("example.com:8080", "http://example.com:8080", True),
        ("example.com:8080", "http://example.com", False),
        ("example.com:80", "http://example.com", True),
        ("example.com:443", "https://www.example.com", True),
        ("https://example.com", "https://example.com", True),
        ("https://example.com", "http://example.com", False),
        ("all://example.com", "http://example.com", True),
        ("http://example.com:8080", "http://example.com:8080", True),
        # addresses
        ("127.0.0.1", "http://127.0.0.1:8000", True),
        ("127.0.0.1:8000", "http://127.0.0.1:8000", True),
        ("127.0.0.1:8000", "http://127.0.0.1:8001", False),
        ("0.0.1", "http://127.0.0.1", False),
        ("192.168.0.0/16", "http://192.168.7.9", True),
        ("192.168.7.9/16", "http://192.168.1.1", True),
        ("192.168.0.0/16", "http://192.169.7.9", False),
        ("192.168.0.0/16", "http://host192.168.0.0", False),
        ("0.0.0.0/0", "http://example.com", False),
        ("::1", "http://[::1]:8000", True),
        ("[::1]", "http://[::1]:8000", True),
        ("[::1]:8000", "http://[::1]:8000", True),
        ("[::1]:8000", "http://[::1]:8001", False),
        ("0:0:0:0:0:0:0:1", "http://[::1]", True),
        ("fd00::/8", "http://[fd12::1]", True),
        ("fd00::/8", "http://[fe80::1]", False),
        ("fd00::/8", "http://10.0.0.1", False),
    ],
)
def test_what_needs_no_proxy(entries: str, url: str, direct: bool) -> None:
    assert Bypass(entries).matches(origin(url)) is direct


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without proxies."""
    for name in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name.upper()}_PROXY", raising=False)
    monkeypatch.delenv("REQUEST_METHOD", raising=False)
    return monkeypatch


def found(url: str) -> str | None:
    proxies = proxies_of_environment()
    proxy = None if proxies is None else proxies.find(origin(url))
    return None if proxy is None else proxy.host


def test_no_proxy_in_the_environment(environ: pytest.MonkeyPatch) -> None:
    environ.setenv("HTTP_PROXY", "")
    environ.setenv("NO_PROXY", "example.com")
    assert proxies_of_environment() is None


def test_proxies_of_the_environment(environ: pytest.MonkeyPatch) -> None:
    environ.setenv("HTTP_PROXY", "http://plain:3128")
    environ.setenv("HTTPS_PROXY", "https://me:pw@secure")
    environ.setenv("NO_PROXY", "localhost,.internal")
    assert found("http://example.com") == "plain"
    assert found("https://example.com") == "secure"
    assert found("https://db.internal") is None
    assert found("http://localhost:8000") is None
    # Lower case wins.
    environ.setenv("http_proxy", "http://lower:3128")
    environ.setenv("no_proxy", "example.com")
    assert found("http://example.com") is None
    assert found("http://db.internal") == "lower"


def test_one_proxy_for_all_that_have_none(environ: pytest.MonkeyPatch) -> None:
    environ.setenv("ALL_PROXY", "socks5://all")
    assert found("http://example.com") == found("https://example.com") == "all"
    environ.setenv("HTTPS_PROXY", "secure:8080")
    assert (found("http://example.com"), found("https://example.com")) == ("all", "secure")
    # What nothing goes through may be wrong.
    environ.setenv("HTTP_PROXY", "plain")
    environ.setenv("ALL_PROXY", "gopher://all")
    assert (found("http://example.com"), found("https://example.com")) == ("plain", "secure")


def test_a_cgi_program_ignores_what_a_client_can_set(environ: pytest.MonkeyPatch) -> None:
    environ.setenv("HTTP_PROXY", "http://evil:3128")
    environ.setenv("HTTPS_PROXY", "http://good:3128")
    environ.setenv("REQUEST_METHOD", "GET")
    assert (found("http://example.com"), found("https://example.com")) == (None, "good")
    environ.setenv("http_proxy", "http://good:3128")
    assert found("http://example.com") == "good"


def test_a_wrong_variable_is_named(environ: pytest.MonkeyPatch) -> None:
    environ.setenv("HTTPS_PROXY", "quic://me:s3cr3t@proxy")
    with pytest.raises(ConfigurationError, match=r"HTTPS_PROXY\): a proxy is reached by .* not by 'quic'") as caught:
        proxies_of_environment()
    assert "s3cr3t" not in str(caught.value)


def test_what_the_settings_say_wins(environ: pytest.MonkeyPatch) -> None:
    environ.setenv("ALL_PROXY", "http://environment")
    environ.setenv("NO_PROXY", "*.example")
    proxies = proxies_for(EngineSettings(proxy=Secret("http://me:pw@given:3128")))
    assert proxies is not None
    assert [str(proxy) for proxy in proxies.all] == ["http://given:3128"]
    for url in ("http://www.example", "https://www.example"):
        assert str(proxies.find(origin(url))) == "http://given:3128"
    proxies = proxies_for(EngineSettings())
    assert proxies is not None
    assert [str(proxy) for proxy in proxies.all] == ["http://environment:80"]
    assert proxies_for(EngineSettings(trust_env=False)) is None
    assert proxies_for(EngineSettings(uds="/run/app.sock")) is None

"""What the user or a server gives that is wrong, or odd: said clearly, sent rightly, and never shown."""

import contextlib
import io
import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pynector import AsyncPynector, errors
from pynector.testing import LocalServer
from pynector.transport.http import AsyncHTTPTransport, HttpMessage
from servers.scripted import Connection, ScriptedServer, http_response

SECRET = "s3cr3t-value"


def header_of(server: LocalServer, name: str) -> str | None:
    return dict(server.requests.recent[-1].headers).get(name)


# Credentials of the base URL


async def test_the_password_of_the_base_url_stays_with_its_server(server: LocalServer) -> None:
    host = server.url.removeprefix("http://")
    with LocalServer() as other:
        elsewhere = other.url.replace("127.0.0.1", "localhost")
        async with AsyncPynector(base_url=f"http://user:{SECRET}@{host}") as client:
            await client.get("/echo")
            assert header_of(server, "authorization") == "Basic dXNlcjpzM2NyM3QtdmFsdWU="
            await client.get(f"{server.url}/echo")
            assert header_of(server, "authorization") == "Basic dXNlcjpzM2NyM3QtdmFsdWU="
            for url in (other.url, elsewhere):
                await client.get(f"{url}/echo")
                assert header_of(other, "authorization") is None
            await client.get(f"http://user:{SECRET}@{other.url.removeprefix('http://')}/echo")
            assert header_of(other, "authorization") == "Basic dXNlcjpzM2NyM3QtdmFsdWU="
        async with AsyncPynector(base_url=server.url, auth="token") as client:
            await client.get(f"{elsewhere}/echo")
            assert header_of(other, "authorization") == "Bearer token"


# Cookies


@pytest.mark.parametrize("value", ["zwölf €".encode(), "voilà".encode(), b"\xfc\x85", b"plain"])
async def test_a_cookie_goes_back_byte_by_byte(value: bytes) -> None:
    def script(conn: Connection) -> None:
        conn.read_request()
        conn.send(http_response(b"", "200 OK", b"Set-Cookie: a=" + value + b"; Path=/"))
        assert b"\r\nCookie: a=" + value + b"\r\n" in conn.read_request()
        conn.send(http_response())

    with ScriptedServer(script) as server:
        async with AsyncPynector(base_url=server.url) as client:
            await client.get("/")
            assert (await client.get("/")).status_code == 200


async def test_a_cookie_with_a_control_character_is_not_taken() -> None:
    def script(conn: Connection) -> None:
        conn.read_request()
        conn.send(http_response(b"", "200 OK", b"Set-Cookie: a=1\x01" + SECRET.encode(), b"Set-Cookie: b=2"))
        request = conn.read_request()
        assert b"\r\nCookie: b=2\r\n" in request
        conn.send(http_response())

    with ScriptedServer(script) as server:
        async with AsyncPynector(base_url=server.url) as client:
            await client.get("/")
            assert (await client.get("/")).status_code == 200


async def test_cookies_outside_latin_1_are_sent_as_utf_8() -> None:
    def script(conn: Connection) -> None:
        assert "\r\nCookie: a=€; b=".encode() + b"\xfc\r\n" in conn.read_request()
        conn.send(http_response())

    with ScriptedServer(script) as server:
        async with AsyncPynector(base_url=server.url, cookies={"a": "€", "b": "ü"}) as client:
            assert (await client.get("/")).status_code == 200


@pytest.mark.parametrize(
    ("cookies", "text"),
    [
        (5, "cookies: expected a mapping of names to texts, got int"),
        ("x", "cookies: expected a mapping"),
        ([1], "cookies: expected a mapping"),
        ({"a": 1}, r"cookies\['a'\]: the value must be text, not int"),
        ({"a": None}, r"cookies\['a'\]: the value must be text, not NoneType"),
        ({b"a": b"b"}, r"cookies: a name must be text, not bytes"),
        ({"": "x"}, "cookies: '' is not a valid name"),
        ({"a=b": "x"}, "cookies: 'a=b' is not a valid name"),
        ({"session": f"{SECRET}\r\nX: 1"}, r"cookies\['session'\]: the value holds"),
        ({"session": f"{SECRET}; Path=/"}, r"cookies\['session'\]: the value holds"),
        ({"session": f"{SECRET}\ud800"}, r"cookies\['session'\]: the value holds"),
    ],
)
def test_cookies_that_are_refused(cookies: Any, text: str) -> None:
    with pytest.raises(errors.ConfigurationError, match=text) as caught:
        AsyncPynector(base_url="http://h", cookies=cookies)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


# Arguments of the transport


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"verify_ssl": 0}, "argument `verify_ssl`: 0 is not accepted; give True or False"),
        ({"verify_ssl": []}, "argument `verify_ssl`"),
        ({"trust_env": 1}, "argument `trust_env`"),
        ({"follow_redirects": None}, "argument `follow_redirects`"),
        ({"retry_status_codes": 5}, "retry_status_codes=5 is not accepted"),
        ({"retry_status_codes": [[]]}, "retry_status_codes="),
        ({"retry_status_codes": ["503"]}, "give HTTP statuses"),
        ({"message_type": 5}, "message_type=5 is no message type"),
        ({"max_connections": sys.maxsize}, "argument `max_connections`: .* give at most 100000"),
        ({"client": 5}, "client= is a int: give an httpx"),
        ({"base_url": "https://h:0/"}, "not accepted; give a URL"),
        ({"base_url": "https://h:99999/"}, "not accepted; give a URL"),
    ],
)
def test_arguments_that_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(errors.ConfigurationError, match=text):
        AsyncPynector(**{"base_url": "http://h", **options})


@pytest.mark.parametrize("kind", [[], {}, None, ""])
def test_a_transport_type_that_is_no_name(kind: Any) -> None:
    with pytest.raises(errors.ConfigurationError, match="name must be a text"):
        AsyncPynector(transport_type=kind)


# Parts of a request


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        ({"params": [1]}, "params: expected a mapping, or pairs .* got int"),
        ({"params": [("a",)]}, "params: expected a mapping, or pairs"),
        ({"params": [("a", "b", "c")]}, "params: expected a mapping, or pairs"),
        ({"params": ["ab"]}, "params: expected a mapping, or pairs"),
        ({"params": {"a": "\ud800"}}, "query parameter 'a' holds a lone surrogate"),
        ({"params": {"filter": {"age": 5}}}, "query parameter 'filter' is of type dict"),
        ({"params": {"a": bytearray(b"x")}}, "query parameter 'a' is of type bytearray"),
        ({"params": {None: 1}}, "params: a name must be text, not NoneType"),
        ({"path": "https://h:99999/"}, "port"),
        ({"path": "http://h:0/"}, "port is a number from 1 to 65535"),
        ({"form": ["ab"]}, "form: expected pairs"),
        ({"form": ["ab"], "files": {"f": b"x"}}, "form: expected pairs"),
        ({"form": {"a": {"b": 1}}}, r"form\.a: dict cannot be sent"),
        ({"content": [1]}, "content: a chunk of the body must be bytes, not int"),
        ({"content": ["text"]}, "content: a chunk of the body must be bytes, not str"),
    ],
)
async def test_requests_that_are_refused_before_they_are_sent(
    server: LocalServer, request_: dict[str, Any], text: str
) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        with pytest.raises((errors.ConfigurationError, errors.SerializationError), match=text):
            await client.request({"path": "/echo", "method": "POST", **request_})
        assert server.requests.count == 0


class Numbers:
    """A file that reads numbers."""

    def read(self, size: int = -1) -> int:
        return 7


def numbers() -> Iterator[Any]:
    yield b"good"
    yield 1


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (numbers, "content: a chunk of the body must be bytes, not int"),
        (Numbers, r"read\(\) of a Numbers gave int, not bytes"),
    ],
)
async def test_contents_that_turn_out_wrong(server: LocalServer, content: Any, text: str) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        with pytest.raises(errors.SerializationError, match=text):
            await client.post("/echo", content=content())
        assert (await client.get("/echo")).status_code == 200


async def test_files_that_cannot_be_read(server: LocalServer, tmp_path: Path) -> None:
    path = tmp_path / "body"
    path.write_bytes(b"x")
    closed = path.open("rb")
    closed.close()
    async with AsyncPynector(base_url=server.url) as client:
        with path.open("ab") as written:
            for file, text in ((closed, "is closed"), (written, "not open for reading")):
                upload: Any = file
                with pytest.raises(errors.ConfigurationError, match=f"^content: .*{text}"):
                    await client.post("/echo", content=upload)
                with pytest.raises(errors.ConfigurationError, match=rf"^files\.f: .*{text}"):
                    await client.post("/echo", files={"f": upload})
        late = path.open("rb")
        message = HttpMessage("POST", "/echo", content=late)
        late.close()
        with pytest.raises(errors.SerializationError, match="the file is closed"):
            await client.request(message)
        assert server.requests.count == 0


@pytest.mark.parametrize("files", [[], {}, ()])
async def test_no_files_are_no_multipart_body(server: LocalServer, files: Any) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        await client.post("/echo", files=files)
        assert header_of(server, "content-type") is None
        assert header_of(server, "content-length") == "0"
        await client.post("/echo", files=files, form={"a": 1})
        assert server.requests.recent[-1].body == b"a=1"
        await client.post("/echo", files=files, json=[1])
        assert server.requests.recent[-1].body == b"[1]"


# One file in many requests


def good(conn: Connection) -> None:
    with contextlib.suppress(EOFError):
        while True:
            conn.read_request()
            conn.send(http_response())


def bodies(requests: list[bytes]) -> list[bytes]:
    return [request.partition(b"\r\n\r\n")[2] for request in requests]


async def test_one_file_is_the_body_of_many_requests(tmp_path: Path) -> None:
    whole = bytes(range(256)) * 2000
    path = tmp_path / "body"
    path.write_bytes(b"skipped" + whole)
    with path.open("rb") as file, ScriptedServer(good, repeat=True) as server:
        file.seek(7)
        async with AsyncPynector(base_url=server.url) as client:
            requests = [{"path": "/", "method": "POST", "content": file} for _ in range(12)]
            await client.batch_request(requests, max_concurrency=6, raise_on_error=True)
            assert [body == whole for body in bodies(server.requests)] == [True] * 12
            server.requests.clear()
            uploads = [{"path": "/", "method": "POST", "files": {"f": file}} for _ in range(12)]
            await client.batch_request(uploads, max_concurrency=6, raise_on_error=True)
            # As in httpx, an upload begins at the start of the file.
            assert [b"\r\n\r\nskipped" + whole + b"\r\n--" in body for body in bodies(server.requests)] == [True] * 12
        assert file.tell() == 7


async def test_a_text_file_in_many_requests() -> None:
    text = "zwölf Boxkämpfer €\n" * 9000
    file = io.TextIOWrapper(io.BytesIO(text.encode()), encoding="utf-8", newline="")
    with ScriptedServer(good, repeat=True) as server:
        async with AsyncPynector(base_url=server.url) as client:
            requests = [{"path": "/", "method": "POST", "content": file} for _ in range(4)]
            await client.batch_request(requests, max_concurrency=4, raise_on_error=True)
    chunks = [re.sub(rb"(^|\r\n)[0-9a-f]+\r\n", b"", body).removesuffix(b"\r\n") for body in bodies(server.requests)]
    assert [chunk == text.encode() for chunk in chunks] == [True] * 4


# Streams


async def test_a_stream_outside_its_block(server: LocalServer) -> None:
    async with AsyncHTTPTransport(base_url=server.url) as transport:
        stream = transport.stream({"path": "/echo"})
        with pytest.raises(errors.ClosedError, match="is not open: use it with `"):
            async for _ in stream:
                pass
        with pytest.raises(errors.ClosedError, match="is not open"):
            stream.raise_for_status()
    assert server.requests.count == 0


async def test_raise_for_status_of_a_stream(server: LocalServer) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        async with client.stream({"path": "/echo"}) as response:
            assert response.raise_for_status() is response
        async with client.stream({"path": "/status/404"}, raise_for_status=False) as response:
            assert response.status_code == 404
            with pytest.raises(errors.HTTPNotFoundError) as caught:
                response.raise_for_status()
            assert caught.value.response.status_code == 404
            assert await response.read() == caught.value.response.content

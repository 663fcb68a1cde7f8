"""Bodies of requests: how each kind goes over the wire, and which can be sent a second time."""

import io
import os
from collections.abc import Iterator
from typing import Any

import pytest

from pynector import AsyncPynector, RetryPolicy, errors
from pynector.testing import LocalServer
from pynector.transport.http import HttpMessage
from servers.scripted import Connection, ScriptedServer, http_response

pytestmark = pytest.mark.usefixtures("engine")

QUICK = RetryPolicy(max_retries=2, backoff_factor=0.01)


def pieces(*texts: bytes) -> Iterator[bytes]:
    yield from texts or (b"one", b"two")


async def sent(server: LocalServer, **request: Any) -> tuple[bytes, dict[str, str]]:
    """Send a request and return its body and its headers as the server saw them."""
    async with AsyncPynector(base_url=server.url) as client:
        await client.request({"path": "/echo", "method": "POST", **request})
    last = server.requests.recent[-1]
    return last.body, dict(last.headers)


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
async def test_no_body_and_no_length(server: LocalServer, method: str) -> None:
    body, headers = await sent(server, method=method)
    assert body == b""
    assert not {"content-length", "content-type", "transfer-encoding"} & headers.keys()


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
async def test_no_body_where_one_is_usual(server: LocalServer, method: str) -> None:
    _, headers = await sent(server, method=method)
    assert headers["content-length"] == "0"
    assert "content-type" not in headers


async def test_a_get_with_a_body(server: LocalServer) -> None:
    body, headers = await sent(server, method="GET", json={"q": 1})
    assert body == b'{"q":1}'
    assert headers["content-length"] == "7"


async def test_the_content_type_of_the_user_wins(server: LocalServer) -> None:
    _, headers = await sent(server, json={}, headers={"content-TYPE": "application/vnd.api+json"})
    assert headers["content-type"] == "application/vnd.api+json"
    async with AsyncPynector(base_url=server.url, headers={"Content-Type": "text/csv"}) as client:
        await client.post("/echo", content="a,b")
        assert server.requests.recent[-1].header("content-type") == "text/csv"
        # Only the encoder of a multipart body knows its boundary.
        await client.post("/echo", files={"f": b"x"})
        assert server.requests.recent[-1].header("content-type").startswith("multipart/form-data; boundary=")


async def test_a_length_the_user_gives(server: LocalServer) -> None:
    body, headers = await sent(server, content=pieces(b"12", b"345"), headers={"Content-Length": "5"})
    assert body == b"12345"
    assert "transfer-encoding" not in headers


@pytest.mark.parametrize("given", ["2", "9"])
async def test_a_length_that_is_wrong(server: LocalServer, given: str, no_leaks: None) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        with pytest.raises(errors.HTTPProtocolError, match="Content-Length") as caught:
            await client.put("/echo", content=pieces(b"12", b"345"), headers={"Content-Length": given})
        assert caught.value.attempts == 1
        assert caught.value.url == f"{server.url}/echo"
        assert (await client.get("/items/1")).status_code == 200


async def test_large_bodies(server: LocalServer, no_leaks: None) -> None:
    data = os.urandom(3_000_000)
    async with AsyncPynector(base_url=server.url) as client:
        for content in (
            data,
            io.BytesIO(data),
            pieces(*(data[at : at + 100_000] for at in range(0, len(data), 100_000))),
        ):
            response = await client.post("/echo", content=content)
            assert len(response.json()["body"]) == 4_000_000


async def test_multipart(server: LocalServer) -> None:
    body, headers = await sent(
        server,
        form=[("a", "1"), ("a", 2), ("b", True), ("a", "3"), ("c", None)],
        files=[("f", ("one.txt", "text")), ("f", (None, b"unnamed")), ("g", ("x.bin", io.BytesIO(b"bin"), "x/y"))],
    )
    boundary = headers["content-type"].partition("boundary=")[2].encode()
    parts = [part.removesuffix(b"\r\n") for part in body.split(b"--" + boundary)[1:-1]]
    assert [part.partition(b"\r\n\r\n")[2] for part in parts] == [
        b"1", b"2", b"3", b"true", b"", b"text", b"unnamed", b"bin",
    ]  # fmt: skip
    assert b'name="f"; filename="one.txt"\r\nContent-Type: text/plain' in parts[5]
    assert b"filename" not in parts[6]
    assert b'name="g"; filename="x.bin"\r\nContent-Type: x/y' in parts[7]
    assert int(headers["content-length"]) == len(body)


async def test_a_form_of_tuples_beside_files(server: LocalServer) -> None:
    body, _ = await sent(server, form={"t": ("a", "b")}, files={"f": b"x"})
    assert body.count(b'name="t"') == 2


class Pipe(io.RawIOBase):
    """A file that cannot seek."""

    def __init__(self, data: bytes) -> None:
        self._rest = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._rest.read(size)


async def test_files_that_cannot_seek(server: LocalServer) -> None:
    body, headers = await sent(server, content=Pipe(b"piped"))
    assert body == b"piped"
    assert headers["transfer-encoding"] == "chunked"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("json", {"a": 1}),
        ("form", {"a": "1"}),
        ("content", b"bytes"),
        ("content", "text"),
        ("content", [b"li", b"st"]),
        ("content", io.BytesIO(b"from a file")),
        ("content", io.StringIO("from a text file")),
        ("files", {"f": ("f.txt", io.BytesIO(b"uploaded"))}),
    ],
)
async def test_bodies_that_are_sent_again(server: LocalServer, field: str, value: Any) -> None:
    if hasattr(value, "seek"):
        value.seek(0)
    async with AsyncPynector(base_url=server.url, retry=QUICK) as client:
        response = await client.put("/flaky/body", params={"fail": 2}, **{field: value})
        assert response.json()["attempt"] == 3
        if hasattr(value, "seek"):
            value.seek(0)
        redirected = await client.post("/redirect-to?status=307&url=/echo", **{field: value})
    bodies = [request.body for request in server.requests.recent]
    assert bodies[0] != b""
    assert len(set(bodies[:3])) == 1
    assert redirected.json()["method"] == "POST"
    assert server.requests.recent[-1].body == bodies[3] != b""


@pytest.mark.parametrize("content", [pieces, lambda: Pipe(b"piped")])
async def test_bodies_that_cannot_be_sent_again(server: LocalServer, content: Any, no_leaks: None) -> None:
    async with AsyncPynector(base_url=server.url, retry=QUICK) as client:
        with pytest.raises(errors.HTTPServerError) as caught:
            await client.put("/status/503", content=content())
        assert caught.value.attempts == 1
        with pytest.raises(errors.HTTPRedirectError, match="can't be sent again"):
            await client.post("/redirect-to?status=307&url=/echo", content=content())
        # A redirect that leaves the body behind needs none.
        answer = await client.post("/redirect-to?status=303&url=/echo", content=content())
        assert answer.json()["method"] == "GET"
        assert not {"content-length", "transfer-encoding"} & dict(answer.json()["headers"]).keys()


async def test_a_body_that_cannot_be_sent_again_after_a_broken_connection(no_leaks: None) -> None:
    def hang_up(conn: Connection) -> None:
        conn.read_request()

    with ScriptedServer(hang_up) as server:
        async with AsyncPynector(base_url=server.url, retry=QUICK) as client:
            with pytest.raises(errors.HTTPProtocolError) as caught:
                await client.put("/x", content=pieces())
        assert caught.value.attempts == 1
        assert len(server.requests) == 1


async def test_a_body_that_raises(server: LocalServer, no_leaks: None) -> None:
    def broken() -> Iterator[bytes]:
        yield b"one"
        raise ZeroDivisionError("in the body")

    async with AsyncPynector(base_url=server.url, retry=QUICK) as client:
        with pytest.raises(ZeroDivisionError, match="in the body"):
            await client.put("/echo", content=broken())
        results = await client.batch_request(
            [{"path": "/echo", "method": "PUT", "content": broken()}, {"path": "/items/1"}]
        )
        assert isinstance(results[0], ZeroDivisionError)
        assert results[1].status_code == 200


async def test_an_early_answer_to_a_large_body(no_leaks: None) -> None:
    def too_large(conn: Connection) -> None:
        conn.read_head()
        conn.send(http_response(b"too large", "413 Content Too Large", b"Connection: close"))
        conn.half_close()
        conn.wait(1)

    with ScriptedServer(too_large) as server:
        async with AsyncPynector(base_url=server.url, retry=None) as client:
            with pytest.raises(errors.HTTPClientError) as caught:
                await client.post("/x", content=bytes(100_000))
    assert caught.value.status_code == 413
    assert caught.value.response is not None
    assert caught.value.response.text == "too large"


async def test_the_names_of_older_pages(server: LocalServer) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        as_json = await client.request({"path": "/echo", "method": "POST", "json_data": {"a": 1}})
        as_form = await client.request(HttpMessage("POST", "/echo", form_data={"a": "1"}))
    assert as_json.json()["text"] == '{"a":1}'
    assert as_form.json()["text"] == "a=1"

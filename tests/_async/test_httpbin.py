"""The client against httpbin, a server that somebody else wrote."""

import base64
import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pynector import AsyncPynector, RetryPolicy, errors
from pynector.transport.http import HttpMessage

pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.full_beyond("httpx", "pyreqwest")]

QUICK = RetryPolicy(max_retries=2, backoff_factor=0.01)


# Methods


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete"])
async def test_shortcuts_reach_the_route_of_their_method(httpbin: str, method: str) -> None:
    async with AsyncPynector(base_url=httpbin) as client:
        response = await getattr(client, method)(f"/{method}", params={"a": "1"}, headers={"X-Own": "yes"})
    answer = response.json()
    assert answer["url"] == f"{httpbin}/{method}?a=1"
    assert answer["args"] == {"a": "1"}
    assert answer["headers"]["X-Own"] == "yes"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "TRACE"])
async def test_request_sends_any_method(httpbin: str, method: str) -> None:
    async with AsyncPynector(base_url=httpbin) as client:
        response = await client.request({"path": "/anything/some/where", "method": method.lower()})
    assert response.json()["method"] == method
    assert response.json()["url"] == f"{httpbin}/anything/some/where"


async def test_head_has_headers_and_no_body(httpbin: str) -> None:
    async with AsyncPynector(base_url=httpbin) as client:
        response = await client.head("/get")
        assert response.status_code == 200
        assert int(response.headers["content-length"]) > 100
        assert response.content == b""
        assert (await client.get("/get")).json()["url"] == f"{httpbin}/get"


async def test_options_tells_what_is_allowed(httpbin: str) -> None:
    async with AsyncPynector(base_url=httpbin) as client:
        response = await client.options("/get")
    assert {"GET", "HEAD", "OPTIONS"} <= {name.strip() for name in response.headers["allow"].split(",")}


# The URL and the headers


@pytest.mark.parametrize(
    ("params", "args"),
    [
        (
            {"n": 3, "f": 1.5, "yes": True, "no": False, "none": None},
            {"n": "3", "f": "1.5", "yes": "true", "no": "false", "none": ""},
        ),
        ({"tag": ["a", "b", 3]}, {"tag": ["a", "b", "3"]}),
        ([("k", "1"), ("k", "2")], {"k": ["1", "2"]}),
        ({"name": "Zoë & 你好", "ключ": "значение"}, {"name": "Zoë & 你好", "ключ": "значение"}),
        ({"a b": "c+d=e/f?g#h"}, {"a b": "c+d=e/f?g#h"}),
        ({}, {}),
    ],
)
async def test_query(httpbin: str, params: Any, args: dict[str, Any]) -> None:
    async with AsyncPynector(base_url=httpbin) as client:
        response = await client.get("/get", params=params)
    assert response.json()["args"] == args


async def test_params_are_added_to_those_of_the_url(httpbin: str) -> None:
    async with AsyncPynector(base_url=f"{httpbin}/anything") as client:
        response = await client.get("deep?a=1&b=x%20y", params={"a": 2})
        assert response.json()["args"] == {"a": ["1", "2"], "b": "x y"}
        assert response.json()["url"].startswith(f"{httpbin}/anything/deep?")
        response = await client.get("/größe")
        assert response.url == f"{httpbin}/anything/gr%C3%B6%C3%9Fe"
        absolute = await client.request({"url": f"{httpbin}/get?x=1"})
        assert absolute.json()["args"] == {"x": "1"}


async def test_headers_of_the_request_win_over_those_of_the_client(httpbin: str) -> None:
    async with AsyncPynector(
        base_url=httpbin, headers={"X-A": "client", "X-B": "client", "User-Agent": "mine/1"}
    ) as client:
        headers = (await client.get("/headers", headers={"x-b": "own"})).json()["headers"]
        again = (await client.get("/headers")).json()["headers"]
    assert (headers["X-A"], headers["X-B"], headers["User-Agent"]) == ("client", "own", "mine/1")
    assert again["X-B"] == "client"


async def test_headers_nobody_asked_for(httpbin: str) -> None:
    async with AsyncPynector(base_url=httpbin) as client:
        headers = (await client.get("/headers")).json()["headers"]
    assert headers["User-Agent"].startswith("pynector/")
    assert headers["Accept"] == "*/*"
    assert {"gzip", "deflate", "br"} <= {coding.strip() for coding in headers["Accept-Encoding"].split(",")}
    assert headers["Host"] == httpbin.removeprefix("http://")
    assert not {"Content-Type", "Content-Length", "Cookie", "Authorization"} & headers.keys()


async def test_repeated_headers_of_the_answer_are_kept(httpbin: str) -> None:
    async with AsyncPynector(base_url=httpbin) as client:
        response = await client.get("/response-headers", params={"X-Many": ["one", "two"], "X-One": "1"})
    assert response.headers.get_list("x-many") == ["one", "two"]
    assert response.headers["X-MANY"] == "one, two"
    assert response.headers["x-one"] == "1"


# Bodies


@pytest.mark.parametrize("value", [{"a": [1, 2.5, None, True], "ü": "你好"}, [], {}, "text", 7, False])
async def test_json(httpbin: str, value: Any) -> None:
    async with AsyncPynector(base_url=httpbin) as client:
        answer = (await client.post("/post", json=value)).json()
    assert answer["json"] == value
    assert answer["headers"]["Content-Type"] == "application/json"


async def test_form(httpbin: str) -> None:
    async with AsyncPynector(base_url=httpbin) as client:
        answer = (await client.post("/post", form={"a": "1", "tags": ["x", "y"], "ü": "é&=", "on": True})).json()
    assert answer["form"] == {"a": "1", "tags": ["x", "y"], "ü": "é&=", "on": "true"}
    assert answer["headers"]["Content-Type"] == "application/x-www-form-urlencoded"


async def test_files(httpbin: str, tmp_path: Path) -> None:
    path = tmp_path / "report.txt"
    path.write_bytes(b"from a file")
    with path.open("rb") as file:
        async with AsyncPynector(base_url=httpbin) as client:
            answer = (
                await client.post(
                    "/post",
                    form={"title": "ü", "tags": ["a", "b"]},
                    files={
                        "raw": b"plain bytes",
                        "file": file,
                        "memory": io.BytesIO(b"in memory"),
                        "named": ("naïve.csv", b"a,b\n1,2\n", "text/csv"),
                        "binary": ("x.bin", b"\xff\x00\xfe", "application/octet-stream"),
                    },
                )
            ).json()
    assert answer["form"] == {"title": "ü", "tags": ["a", "b"]}
    binary = answer["files"].pop("binary")
    assert base64.b64decode(binary.partition(",")[2]) == b"\xff\x00\xfe"
    assert answer["files"] == {
        "raw": "plain bytes",
        "file": "from a file",
        "memory": "in memory",
        "named": "a,b\n1,2\n",
    }
    assert answer["headers"]["Content-Type"].startswith("multipart/form-data; boundary=")
    assert "Content-Length" in answer["headers"]


def pieces() -> Iterator[bytes]:
    yield b"one "
    yield b""
    yield b"two"


@pytest.mark.parametrize(
    ("content", "data"),
    [
        (b"raw \x01", "raw \x01"),
        ("te\u00fcxt", "te\u00fcxt"),
        (b"", ""),
        (bytearray(b"array"), "array"),
        ([b"a", b"b"], "ab"),
    ],
)
async def test_content(httpbin: str, content: Any, data: str) -> None:
    async with AsyncPynector(base_url=httpbin) as client:
        response = await client.post("/post", content=content, headers={"Content-Type": "text/plain"})
    assert response.json()["data"] == data
    assert response.json()["headers"]["Content-Type"] == "text/plain"


async def test_content_from_a_file_goes_on_from_where_it_stands(httpbin: str) -> None:
    file = io.BytesIO(b"skipped|sent" + b"." * 100_000)
    file.seek(8)
    async with AsyncPynector(base_url=httpbin) as client:
        answer = (await client.put("/put", content=file)).json()
    assert answer["data"] == "sent" + "." * 100_000
    assert answer["headers"]["Content-Length"] == "100004"


async def test_content_from_a_text_file_and_a_generator(httpbin: str) -> None:
    async with AsyncPynector(base_url=httpbin) as client:
        text = await client.post("/post", content=io.StringIO("zwölf"))
        generated = await client.post("/post", content=pieces())
    assert text.json()["data"] == "zwölf"
    assert generated.json()["data"] == "one two"
    assert "Content-Length" not in generated.json()["headers"]


# Redirects


@pytest.mark.parametrize("route", ["redirect", "relative-redirect", "absolute-redirect"])
async def test_redirects_are_followed(httpbin: str, route: str) -> None:
    async with AsyncPynector(base_url=httpbin) as client:
        response = await client.get(f"/{route}/3")
    assert response.status_code == 200
    assert response.url == f"{httpbin}/get"
    assert [step.status_code for step in response.history] == [302, 302, 302]
    assert response.history[0].url == f"{httpbin}/{route}/3"


@pytest.mark.parametrize(
    ("status", "method", "data"), [(307, "POST", "body"), (308, "POST", "body"), (302, "GET", ""), (303, "GET", "")]
)
async def test_a_redirected_post(httpbin: str, status: int, method: str, data: str) -> None:
    async with AsyncPynector(base_url=httpbin) as client:
        response = await client.post(
            "/redirect-to", params={"url": f"{httpbin}/anything", "status_code": status}, content=b"body"
        )
    assert response.json()["method"] == method
    assert response.json()["data"] == data
    assert ("Content-Length" in response.json()["headers"]) == (method == "POST")


async def test_too_many_redirects(httpbin: str) -> None:
    async with AsyncPynector(base_url=httpbin) as client:
        assert (await client.get("/redirect/20")).status_code == 200
        with pytest.raises(errors.HTTPRedirectError, match="more than 20 redirects") as caught:
            await client.get("/redirect/21")
    assert caught.value.attempts == 1


async def test_redirects_that_are_not_followed(httpbin: str) -> None:
    async with AsyncPynector(base_url=httpbin, follow_redirects=False) as client:
        response = await client.get("/redirect/2")
    assert response.status_code == 302
    assert response.headers["location"] == "/relative-redirect/1"
    assert response.history == ()


# Cookies


async def test_cookies_persist_within_a_client(httpbin: str) -> None:
    async with AsyncPynector(base_url=httpbin) as client:
        assert (await client.get("/cookies")).json()["cookies"] == {}
        set_and_followed = await client.get("/cookies/set", params={"a": "1", "b": "2"})
        assert set_and_followed.json()["cookies"] == {"a": "1", "b": "2"}
        assert (await client.get("/cookies")).json()["cookies"] == {"a": "1", "b": "2"}
        await client.get("/cookies/delete", params={"a": ""})
        assert (await client.get("/cookies")).json()["cookies"] == {"b": "2"}
    async with AsyncPynector(base_url=httpbin) as other:
        assert (await other.get("/cookies")).json()["cookies"] == {}


async def test_given_cookies(httpbin: str) -> None:
    async with AsyncPynector(base_url=httpbin, cookies={"session": "s1", "theme": "dark"}) as client:
        assert (await client.get("/cookies")).json()["cookies"] == {"session": "s1", "theme": "dark"}
        own = await client.get("/cookies", headers={"Cookie": "extra=1"})
        assert own.json()["cookies"] == {"extra": "1", "session": "s1", "theme": "dark"}
        await client.get("/cookies/set", params={"session": "s2"})
        assert (await client.get("/cookies")).json()["cookies"]["session"] == "s2"


# Credentials


async def test_basic_auth(httpbin: str) -> None:
    async with AsyncPynector(base_url=httpbin, auth=("üser", "p:w")) as client:
        assert (await client.get("/basic-auth/üser/p:w")).json() == {"authenticated": True, "user": "üser"}
        with pytest.raises(errors.HTTPUnauthorizedError) as caught:
            await client.get("/basic-auth/other/pw")
    assert caught.value.status_code == 401
    assert "p:w" not in str(caught.value)


async def test_basic_auth_in_the_url(httpbin: str) -> None:
    with_user = httpbin.replace("//", "//me:s%40crit@")
    async with AsyncPynector(base_url=with_user) as client:
        response = await client.get("/basic-auth/me/s@crit")
        assert response.json()["authenticated"] is True
        assert response.url == f"{httpbin}/basic-auth/me/s@crit"
        assert "crit" not in repr(client)
        with pytest.raises(errors.HTTPNotFoundError) as caught:
            await client.get("/status/404")
    assert "crit" not in f"{caught.value!r} {caught.value.url} {vars(caught.value)}"


async def test_bearer(httpbin: str) -> None:
    async with AsyncPynector(base_url=httpbin, auth="tok-123") as client:
        assert (await client.get("/bearer")).json() == {"authenticated": True, "token": "tok-123"}
        own = await client.get("/bearer", headers={"Authorization": "Bearer other"})
        assert own.json()["token"] == "other"
    async with AsyncPynector(base_url=httpbin) as client:
        with pytest.raises(errors.HTTPUnauthorizedError):
            await client.get("/bearer")


# What comes back


@pytest.mark.parametrize(("route", "mark"), [("gzip", "gzipped"), ("deflate", "deflated"), ("brotli", "brotli")])
async def test_compressed_answers(httpbin: str, route: str, mark: str) -> None:
    async with AsyncPynector(base_url=httpbin) as client:
        response = await client.get(f"/{route}")
        assert response.json()[mark] is True
        async with client.stream({"path": f"/{route}"}) as stream:
            assert await stream.read() == response.content
    assert "content-encoding" in response.headers


STATUSES = {
    400: errors.HTTPClientError,
    401: errors.HTTPUnauthorizedError,
    403: errors.HTTPForbiddenError,
    404: errors.HTTPNotFoundError,
    405: errors.HTTPClientError,
    408: errors.HTTPTimeoutError,
    418: errors.HTTPClientError,
    429: errors.HTTPTooManyRequestsError,
    500: errors.HTTPServerError,
    501: errors.HTTPServerError,
    503: errors.HTTPServerError,
    599: errors.HTTPServerError,
}


@pytest.mark.parametrize(("status", "kind"), STATUSES.items())
async def test_error_statuses(httpbin: str, status: int, kind: type[errors.HTTPStatusError]) -> None:
    async with AsyncPynector(base_url=httpbin, retry=QUICK) as client:
        with pytest.raises(errors.HTTPStatusError) as caught:
            await client.get(f"/status/{status}")
        error = caught.value
        assert type(error) is kind
        assert error.status_code == status
        assert error.attempts == (3 if status in QUICK.retry_statuses else 1)
        assert error.elapsed is not None
        assert error.elapsed > 0
        assert error.method == "GET"
        assert error.url == f"{httpbin}/status/{status}"
        assert error.response is not None
        assert error.response.status_code == status
        response = await client.get(f"/status/{status}", raise_for_status=False, retry=None)
        assert response.status_code == status


@pytest.mark.parametrize("status", [200, 201, 202, 204, 304])
async def test_other_statuses(httpbin: str, status: int) -> None:
    async with AsyncPynector(base_url=httpbin) as client:
        response = await client.get(f"/status/{status}")
        assert response.status_code == status
        assert (await client.get("/get")).status_code == 200


async def test_bytes_and_text(httpbin: str) -> None:
    async with AsyncPynector(base_url=httpbin) as client:
        first = await client.get("/bytes/5000", params={"seed": 7})
        second = await client.get("/bytes/5000", params={"seed": 7})
        text = await client.get("/encoding/utf8")
        html = await client.get("/html")
        denied = await client.get("/deny")
        with pytest.raises(errors.DeserializationError, match="not JSON in 200 GET"):
            html.json()
    assert len(first.content) == 5000
    assert first.content == second.content
    assert isinstance(first.get_payload()["data"], bytes)
    assert "∮ E⋅da = Q" in text.text
    assert isinstance(html.get_payload()["data"], str)
    assert "YOU SHOULDN'T BE HERE" in denied.text


async def test_streams(httpbin: str) -> None:
    async with AsyncPynector(base_url=httpbin) as client:
        async with client.stream({"path": "/stream/5"}) as response:
            assert response.status_code == 200
            assert response.url == f"{httpbin}/stream/5"
            assert response.http_version == "HTTP/1.1"
            chunks = [chunk async for chunk in response]
        lines = b"".join(chunks).splitlines()
        assert len(lines) == 5
        async with client.stream({"path": "/stream-bytes/20000?chunk_size=100&seed=1"}) as response:
            assert len(await response.read()) == 20_000
        async with client.stream({"path": "/redirect/2"}) as response:
            assert response.url == f"{httpbin}/get"
        with pytest.raises(errors.HTTPNotFoundError):
            async with client.stream({"path": "/status/404"}):
                pytest.fail("the block of a stream that failed ran")
        async with client.stream({"path": "/status/418"}, raise_for_status=False) as response:
            assert response.status_code == 418
            assert b"teapot" in await response.read()


async def test_drip(httpbin: str) -> None:
    request = {"path": "/drip", "params": {"numbytes": 5, "duration": 0.4, "delay": 0}}
    async with AsyncPynector(base_url=httpbin) as client:
        assert (await client.request(request)).content == b"*****"
        with pytest.raises(errors.TimeoutError):
            async with client.stream({**request, "params": {"numbytes": 5, "duration": 5}}, timeout=0.3) as response:
                await response.read()
        assert (await client.get("/get")).status_code == 200


async def test_delay_beyond_the_timeout(httpbin: str) -> None:
    async with AsyncPynector(base_url=httpbin, timeout=0.2) as client:
        started = time.monotonic()
        with pytest.raises(errors.TimeoutError, match=r"0\.2 s.*GET .*/delay/2"):
            await client.get("/delay/2")
        assert time.monotonic() - started < 1
        assert (await client.get("/delay/0.3", timeout=None)).status_code == 200


# Batches


async def test_a_batch_keeps_the_order(httpbin: str) -> None:
    async with AsyncPynector(base_url=httpbin) as client:
        requests = [{"path": "/anything", "params": {"index": index}} for index in range(200)]
        results = await client.batch_request(requests, max_concurrency=20)
    assert [response.json()["args"]["index"] for response in results] == [str(index) for index in range(200)]
    assert [outcome.index for outcome in results.outcomes] == list(range(200))
    assert results.summary().status_codes == {200: 200}
    assert results.failed == []


async def test_a_mixed_batch_from_a_generator(httpbin: str) -> None:
    def requests() -> Iterator[Any]:
        for index in range(200):
            if index % 4 == 1:
                yield HttpMessage(url=f"/status/{(404, 500, 403)[index % 3]}")
            elif index % 4 == 2:
                yield {"path": "/status/404"}, {"raise_for_status": False}
            elif index % 4 == 3:
                yield {"path": "/post", "method": "POST", "json": {"index": index}}
            else:
                yield {"path": "/get", "params": {"index": index}}

    async with AsyncPynector(base_url=httpbin, retry=None) as client:
        results = await client.batch_request(requests(), max_concurrency=16)
    assert len(results) == 200
    for index, result in enumerate(results):
        if index % 4 == 1:
            assert isinstance(result, errors.HTTPStatusError)
            assert result.status_code == (404, 500, 403)[index % 3]
        elif index % 4 == 2:
            assert result.status_code == 404
        elif index % 4 == 3:
            assert result.json()["json"] == {"index": index}
        else:
            assert result.json()["args"] == {"index": str(index)}
    assert len(results.ok) == 150
    assert [outcome.index for outcome in results.failed] == list(range(1, 200, 4))
    assert {outcome.state for outcome in results.failed} == {"failed"}


async def test_a_batch_raises_its_first_error(httpbin: str) -> None:
    requests = [{"path": "/get" if index != 20 else "/status/404"} for index in range(200)]
    async with AsyncPynector(base_url=httpbin) as client:
        with pytest.raises(errors.HTTPNotFoundError) as caught:
            await client.batch_request(requests, max_concurrency=5, raise_on_error=True)
        assert (await client.get("/get")).status_code == 200
    outcomes = caught.value.outcomes
    assert [outcome.index for outcome in outcomes if not outcome.ok] == [20]
    assert 17 <= len(outcomes) < 40  # up to four before it were still under way


async def test_a_batch_that_runs_out_of_time(httpbin: str) -> None:
    requests = [{"path": "/get"}] * 10 + [{"path": "/delay/2"}] * 5 + [{"path": "/get"}] * 185
    async with AsyncPynector(base_url=httpbin) as client:
        started = time.monotonic()
        results = await client.batch_request(requests, max_concurrency=5, timeout=0.6)
        assert time.monotonic() - started < 1.5
    assert len(results) == 200
    assert all(outcome.ok for outcome in results.outcomes[:10])
    assert {outcome.state for outcome in results.outcomes[10:15]} == {"unknown"}
    assert {outcome.state for outcome in results.outcomes[15:]} == {"not_sent"}
    assert all(isinstance(error, errors.TimeoutError) for error in results[10:])

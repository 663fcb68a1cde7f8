"""The servers of the tests do what their users rely on."""

import contextlib
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import flask
import httpx
import pytest
import trustme

from servers.leaks import LeakCheck
from servers.scripted import Connection, ScriptedServer, http_response
from servers.wsgi import serve_wsgi


def connect(server: ScriptedServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=10)


def read_and_reset(conn: Connection) -> None:
    conn.read(1)
    conn.reset()


@pytest.mark.usefixtures("no_leaks")
class TestScripted:
    def test_scripts_get_the_connections_in_order(self) -> None:
        def answer(conn: Connection) -> None:
            conn.read_request()
            conn.send(http_response(b"%d" % conn.number, "200 OK", b"X-A: 1"))

        with ScriptedServer(answer, answer) as server:
            for number in (0, 1):
                with connect(server) as sock:
                    sock.sendall(b"GET /%d HTTP/1.1\r\n\r\n" % number)
                    expected = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nX-A: 1\r\n\r\n%d" % number
                    assert sock.recv(1000) == expected
                    assert sock.recv(1) == b""
        assert server.requests == [b"GET /0 HTTP/1.1\r\n\r\n", b"GET /1 HTTP/1.1\r\n\r\n"]
        assert [conn.requests for conn in server.connections] == [[request] for request in server.requests]
        assert all(conn.closed for conn in server.connections)

    def test_request_bodies_are_read_whole_and_unchanged(self) -> None:
        requests = [
            b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
        ]

        def script(conn: Connection) -> None:
            for request in requests:
                assert conn.read_request() == request
            assert conn.read_head() == b"PUT / HTTP/1.1\r\nContent-Length: 2\r\n\r\n"
            assert conn.read(2) == b"hi"
            conn.send(b"done")

        with ScriptedServer(script) as server, connect(server) as sock:
            for byte in b"".join(requests) + b"PUT / HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi":
                sock.sendall(bytes([byte]))
            assert sock.recv(10) == b"done"

    def test_reset_and_close(self) -> None:
        with ScriptedServer(read_and_reset, Connection.close, Connection.half_close) as server:
            with connect(server) as sock, pytest.raises(ConnectionResetError):
                sock.sendall(b"x")
                sock.recv(1)
            for _ in range(2):
                with connect(server) as sock:
                    assert sock.recv(1) == b""

    def test_close_is_a_fin_even_with_unread_bytes(self) -> None:
        arrived = threading.Event()

        def script(conn: Connection) -> None:
            arrived.wait(5)
            time.sleep(0.02)
            conn.close()

        with ScriptedServer(script) as server, connect(server) as sock:
            sock.sendall(b"unread")
            arrived.set()
            assert sock.recv(1) == b""

    def test_wait_and_drip(self) -> None:
        seen: list[object] = []

        def script(conn: Connection) -> None:
            seen.append(conn.wait(0.01))
            seen.append(conn.drip(b"abc", 0.01))
            seen.append(conn.wait())
            seen.append(conn.drip(b"x" * 1000, 0.001))

        with ScriptedServer(script) as server:
            with connect(server) as sock:
                assert [sock.recv(1) for _ in range(3)] == [b"a", b"b", b"c"]
            deadline = time.monotonic() + 5
            while len(seen) < 4 and time.monotonic() < deadline:
                time.sleep(0.01)
        assert seen == [False, True, True, False]

    def test_a_script_that_waits_is_ended_with_the_server(self) -> None:
        threads = threading.active_count()
        with ScriptedServer(Connection.wait, lambda conn: conn.send(b"x" * 100_000_000)) as server:
            first, second = connect(server), connect(server)
            time.sleep(0.05)
            start = time.monotonic()
        assert time.monotonic() - start < 1
        assert threading.active_count() <= threads  # of other tests, some may have ended
        first.close()
        second.close()
        with pytest.raises(ConnectionRefusedError):
            connect(server)

    def test_failing_scripts_surface(self) -> None:
        def script(conn: Connection) -> None:
            conn.read_request()

        with pytest.RaisesGroup(EOFError):
            with ScriptedServer(script) as server, connect(server) as sock:
                sock.sendall(b"GET ")
                sock.shutdown(socket.SHUT_WR)
                with pytest.raises(ConnectionResetError):
                    sock.recv(1)

    def test_failing_scripts_are_noted_on_the_error_of_the_test(self) -> None:
        with pytest.raises(ConnectionResetError) as caught:
            with (
                ScriptedServer(lambda conn: conn.read(1) + b"" * (1 // 0)) as server,
                connect(server) as sock,
            ):
                sock.sendall(b"x")
                sock.recv(1)
        assert caught.value.__notes__ == [
            "a script of the server failed: ZeroDivisionError('integer division or modulo by zero')"
        ]

    def test_a_connection_without_a_script_surfaces(self) -> None:
        with pytest.RaisesGroup(pytest.RaisesExc(AssertionError, match="connection 1 came, but has no script")):
            with ScriptedServer(Connection.close) as server:
                for _ in range(2):
                    with contextlib.suppress(ConnectionResetError), connect(server) as sock:
                        sock.recv(1)

    def test_repeat(self) -> None:
        with ScriptedServer(read_and_reset, Connection.close, repeat=True) as server:
            with connect(server) as sock, pytest.raises(ConnectionResetError):
                sock.sendall(b"x")
                sock.recv(1)
            for _ in range(3):
                with connect(server) as sock:
                    assert sock.recv(1) == b""
        assert len(server.connections) == 4

    def test_tls(self, server_ssl_context: ssl.SSLContext, client_ssl_context: ssl.SSLContext) -> None:
        def script(conn: Connection) -> None:
            conn.start_tls(server_ssl_context)
            conn.read_request()
            conn.send(http_response(b"x" * 1_000_000, "200 OK", b"Connection: close"))

        def stalled(conn: Connection) -> None:
            conn.wait()

        with ScriptedServer(script, stalled, scheme="https") as server:
            with httpx.Client(verify=client_ssl_context, trust_env=False, timeout=0.3) as client:
                response = client.get(server.url)
                assert response.content == b"x" * 1_000_000
                with pytest.raises(httpx.TimeoutException):
                    client.get(server.url)


class TestHttpbin:
    @pytest.mark.parametrize(
        "path",
        "/get /headers /anything /redirect/3 /gzip /deflate /brotli /stream/5 /bytes/1000 /encoding/utf8"
        " /delay/0 /cookies/set?a=b /response-headers?a=b /drip?duration=0&numbytes=5&delay=0".split(),
    )
    def test_route(self, httpbin: str, path: str) -> None:
        response = httpx.get(httpbin + path, follow_redirects=True, trust_env=False)
        assert response.status_code == 200
        assert response.content

    def test_ends_with_the_process_that_started_it(self) -> None:
        program = (
            "import os; from servers.httpbin_server import HttpbinServer\n"
            "print(HttpbinServer().__enter__().url, flush=True); os._exit(1)"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, timeout=60,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        )  # fmt: skip
        url = done.stdout.strip()
        assert url
        deadline = time.monotonic() + 10
        while True:
            try:
                httpx.get(url + "/get", trust_env=False).close()
            except httpx.ConnectError:
                break
            assert time.monotonic() < deadline, "gunicorn still runs"
            time.sleep(0.05)


@pytest.mark.usefixtures("no_leaks")
def test_wsgi_app_on_threads() -> None:
    app = flask.Flask(__name__)
    barrier = threading.Barrier(3, timeout=5)

    @app.get("/<name>")
    def view(name: str) -> dict[str, str]:
        barrier.wait()
        return {"name": name}

    with serve_wsgi(app) as url:
        answers: dict[str, object] = {}

        def get(name: str) -> None:
            answers[name] = httpx.get(f"{url}/{name}", trust_env=False).json()

        threads = [threading.Thread(target=get, args=(name,)) for name in "abc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == {name: {"name": name} for name in "abc"}


class TestLeakCheck:
    def test_nothing(self) -> None:
        check = LeakCheck()
        left, right = socket.socketpair()
        left.close()
        right.close()
        assert check.wait(1) == []

    @pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
    def test_descriptors(self) -> None:
        check = LeakCheck()
        left, right = socket.socketpair()
        ends = os.pipe()
        found = check.wait(0.05)
        left.close()
        right.close()
        for end in ends:
            os.close(end)
        assert len(found) == 4
        assert f"descriptor {ends[0]} -> pipe:" in "\n".join(found)
        assert check.left() == []

    @pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
    def test_a_socket_is_told_by_its_addresses(self) -> None:
        check = LeakCheck()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            with socket.create_connection(listener.getsockname()) as sock:
                found = "\n".join(check.wait(0))
                assert f"({sock.getsockname()} to {listener.getsockname()})" in found
        assert check.wait(1) == []

    def test_worker_thread(self) -> None:
        check = LeakCheck()
        done = threading.Event()
        thread = threading.Thread(target=done.wait, name="pynector-test")
        thread.start()
        found = check.left()
        threading.Timer(0.1, done.set).start()
        assert check.wait(5) == []
        assert found[0].startswith("thread pynector-test")


def test_certificates_are_not_trusted_by_default(authority: trustme.CA, ca: Path) -> None:
    assert ca.read_bytes() == authority.cert_pem.bytes()

"""The blocking network backend: deadlines and cancellation in every operation, on real sockets."""

import contextlib
import gc
import os
import signal
import socket
import ssl
import threading
import time
import weakref
from contextlib import contextmanager

import httpcore
import pytest
import trustme

from pynector._concurrency.threads import _connecting, _network, _polling
from pynector._concurrency.threads.clock import sleep
from pynector._concurrency.threads.locks import Event
from pynector._concurrency.threads.scopes import CancelScope, fail_after, move_on_after
from pynector._concurrency.threads.sockets import network_backend
from pynector._concurrency.threads.tasks import create_task_group
from servers.talking import (
    LONG,
    answer,
    closed_port,
    descriptors,
    drip,
    drip_headers,
    echo,
    failed_lookup,
    full_backlog,
    mute,
    polite_end,
    reset,
    rude_end,
    secure,
    serving,
    silent,
    slow_lookup,
    tls_within,
)

BACKEND = network_backend(httpcore)


@contextmanager
def connected(port: int):
    stream = BACKEND.connect_tcp("127.0.0.1", port)
    try:
        yield stream
    finally:
        stream.close()


def take_all(stream: httpcore.NetworkStream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = stream.read(65536, timeout=LONG)
        assert chunk
        data += chunk
    return data


def test_bytes_go_both_ways():
    with serving(echo) as port, connected(port) as stream:
        stream.write(b"")
        stream.write(b"hello")
        assert stream.read(3) == b"hel"
        assert stream.read(100, timeout=LONG) == b"lo"


def test_the_end_is_empty_bytes():
    with serving(lambda connection, stop: None) as port, connected(port) as stream:
        assert stream.read(100) == b""


def test_a_backend_and_its_streams_are_httpcore_s_own_classes():
    assert isinstance(BACKEND, httpcore.NetworkBackend)
    with serving(echo) as port, connected(port) as stream:
        assert isinstance(stream, httpcore.NetworkStream)


def test_extra_info():
    with serving(echo) as port, connected(port) as stream:
        sock = stream.get_extra_info("socket")
        assert isinstance(sock, socket.socket)
        assert stream.get_extra_info("server_addr") == ("127.0.0.1", port)
        assert stream.get_extra_info("client_addr") == sock.getsockname()
        assert stream.get_extra_info("ssl_object") is None
        assert stream.get_extra_info("nonsense") is None
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert stream.get_extra_info("is_readable") is False
        stream.write(b"x")
        assert _polling.wait_socket(sock, time.monotonic() + LONG)
        assert stream.get_extra_info("is_readable") is True
        stream.close()
        assert stream.get_extra_info("is_readable") is True


def test_options_and_local_address():
    with serving(echo) as port:
        stream = BACKEND.connect_tcp(
            "127.0.0.1",
            port,
            timeout=LONG,
            local_address="127.0.0.1",
            socket_options=[(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)],
        )
        assert stream.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        stream.close()
        with pytest.raises(httpcore.ConnectError):
            BACKEND.connect_tcp("127.0.0.1", port, socket_options=[(socket.SOL_SOCKET, 99999, 1)])


# --- reading and writing ----------------------------------------------------------------------------------


def test_its_own_read_timeout():
    with serving(silent) as port, connected(port) as stream:
        started = time.monotonic()
        with pytest.raises(httpcore.ReadTimeout) as caught:
            stream.read(1, timeout=0.1)
        assert 0.09 < time.monotonic() - started < LONG / 2
        assert isinstance(caught.value.__cause__, TimeoutError)


def test_a_deadline_ends_a_read():
    with serving(silent) as port, connected(port) as stream:
        with move_on_after(0.1) as scope:
            stream.read(1, timeout=LONG)
        assert scope.cancelled_caught


def test_a_deadline_ends_a_drip():
    with serving(drip) as port, connected(port) as stream:
        got = []
        with pytest.raises(TimeoutError), fail_after(0.2):
            while True:
                got.append(stream.read(1, timeout=LONG))
        assert got


def test_cancel_ends_a_read_at_once():
    with serving(silent) as port, connected(port) as stream:
        with create_task_group() as tg:
            tg.start_soon(stream.read, 1)
            sleep(0.05)
            tg.cancel_scope.cancel()


def test_a_cancelled_task_does_not_start_to_read_or_write():
    with serving(echo) as port, connected(port) as stream:
        with CancelScope() as scope:
            scope.cancel()
            stream.write(b"never")
        assert scope.cancelled_caught
        with CancelScope() as scope:
            scope.cancel()
            stream.read(1)
        assert scope.cancelled_caught
        with pytest.raises(httpcore.ReadTimeout):
            stream.read(1, timeout=0.05)


def test_a_late_cancel_does_not_touch_the_connection():
    """The wake-up of a read that was over by then must not end the next one."""
    with serving(echo) as port, connected(port) as stream:
        for number in range(200):
            with CancelScope() as scope:
                canceller = threading.Thread(target=scope.cancel)
                canceller.start()
                try:
                    stream.write(b"%03d" % number)
                    with CancelScope(shield=True):
                        assert take_all(stream, 3) == b"%03d" % number
                finally:
                    canceller.join()
            # The connection still works, whatever became of the cancelled exchange.
            stream.write(b"ok")
            assert take_all(stream, 2) == b"ok"


BIG = b"x" * 20_000_000


def test_writing_to_a_server_that_does_not_read_times_out():
    with serving(silent) as port, connected(port) as stream:
        with pytest.raises(httpcore.WriteTimeout) as caught:
            stream.write(BIG, timeout=0.1)
        assert isinstance(caught.value.__cause__, TimeoutError)


def test_a_deadline_ends_a_write():
    with serving(silent) as port, connected(port) as stream:
        with move_on_after(0.1) as scope:
            stream.write(BIG)
        assert scope.cancelled_caught


def test_cancel_ends_a_write():
    with serving(silent) as port, connected(port) as stream, create_task_group() as tg:
        tg.start_soon(stream.write, BIG)
        sleep(0.1)
        tg.cancel_scope.cancel()


def test_a_big_write_arrives():
    with serving(echo) as port, connected(port) as stream, create_task_group() as tg:
        tg.start_soon(stream.write, BIG)
        assert take_all(stream, len(BIG)) == BIG


def test_nothing_follows_a_write_that_was_cut_short():
    with serving(silent) as port:
        for timeout, patience in ((0.05, LONG), (LONG, 0.05)):
            with connected(port) as stream:
                with contextlib.suppress(httpcore.WriteTimeout), move_on_after(patience):
                    stream.write(BIG, timeout=timeout)
                with pytest.raises(httpcore.WriteError, match="cut short"):
                    stream.write(b"the next message", timeout=LONG)


def test_errors_have_httpcore_s_names_and_their_cause():
    with serving(reset) as port, connected(port) as stream:
        stream.write(b"x")
        with pytest.raises(httpcore.ReadError) as caught:
            for _ in range(100):
                stream.read(1, timeout=LONG)
        assert isinstance(caught.value.__cause__, OSError)
        with pytest.raises(httpcore.WriteError):
            for _ in range(100):
                stream.write(b"x" * 1000, timeout=LONG)
                time.sleep(0.001)
        stream.close()
        with pytest.raises(httpcore.ReadError):
            stream.read(1)
        with pytest.raises(httpcore.WriteError):
            stream.write(b"x")


# --- connecting -------------------------------------------------------------------------------------------


def test_nobody_listens():
    with pytest.raises(httpcore.ConnectError) as caught:
        BACKEND.connect_tcp("127.0.0.1", closed_port())
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)


def test_its_own_connect_timeout():
    with full_backlog() as port, pytest.raises(httpcore.ConnectTimeout):
        BACKEND.connect_tcp("127.0.0.1", port, timeout=0.1)


def test_a_deadline_ends_a_connect():
    with full_backlog() as port:
        with move_on_after(0.1) as scope:
            BACKEND.connect_tcp("127.0.0.1", port)
        assert scope.cancelled_caught


def test_cancel_ends_a_connect():
    with full_backlog() as port, create_task_group() as tg:
        tg.start_soon(BACKEND.connect_tcp, "127.0.0.1", port)
        sleep(0.05)
        tg.cancel_scope.cancel()


def test_a_deadline_ends_a_slow_lookup(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", slow_lookup)
    started = time.monotonic()
    with move_on_after(0.05) as scope:
        BACKEND.connect_tcp("slow.test", 80)
    assert scope.cancelled_caught
    assert time.monotonic() - started < 0.45
    with pytest.raises(httpcore.ConnectTimeout, match="lookup"):
        BACKEND.connect_tcp("slow.test", 80, timeout=0.05)
    with pytest.raises(httpcore.ConnectError, match="no address"):
        BACKEND.connect_tcp("slow.test", 80)


def test_a_failed_lookup(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", failed_lookup)
    with pytest.raises(httpcore.ConnectError) as caught:
        BACKEND.connect_tcp("nowhere.test", 80)
    assert isinstance(caught.value.__cause__, socket.gaierror)
    # Nor does it keep anything alive.
    gone = weakref.ref(caught.value.__cause__)
    gc.disable()
    try:
        del caught
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no such signals here")
def test_a_wait_within_the_wait_for_a_lookup_does_not_take_its_wake_up(monkeypatch):
    def wait_a_little(*args) -> None:
        with move_on_after(0.4):
            Event().wait()

    monkeypatch.setattr(socket, "getaddrinfo", slow_lookup)  # takes 0.5 s
    before = signal.signal(signal.SIGALRM, wait_a_little)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)  # so the lookup ends in the middle of that
        started = time.monotonic()
        with pytest.raises(httpcore.ConnectError, match="no address"):
            BACKEND.connect_tcp("slow.test", 80, timeout=5)
        assert time.monotonic() - started < 4
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


FAMILY = (socket.AF_INET, socket.SOCK_STREAM, 0, "")


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors in /proc")
def test_all_addresses_are_tried(monkeypatch):
    def addresses_are(*addresses) -> None:
        monkeypatch.setattr(_connecting, "_resolve", lambda *args: list(addresses))

    with serving(echo) as port, full_backlog() as full:
        closed = (*FAMILY, ("127.0.0.1", closed_port()))
        hangs = (*FAMILY, ("127.0.0.1", full))
        works = (*FAMILY, ("127.0.0.1", port))
        with connected(port), move_on_after(0) as scope:
            sleep(1)  # now this thread has its wake descriptor
        before = descriptors()
        unusable = (9999, 9999, 0, "", None)
        for order in ([closed, works], [unusable, works], [hangs, works], [hangs, closed, hangs, works]):
            addresses_are(*order)
            started = time.monotonic()
            stream = BACKEND.connect_tcp("many.test", port, timeout=LONG)
            assert time.monotonic() - started < LONG / 2
            assert stream.get_extra_info("server_addr") == ("127.0.0.1", port)
            stream.write(b"x")
            assert stream.read(1) == b"x"
            stream.close()
        addresses_are(closed, closed)
        with pytest.raises(httpcore.ConnectError) as caught:
            BACKEND.connect_tcp("many.test", port)
        assert isinstance(caught.value.__cause__, ConnectionRefusedError)
        addresses_are(hangs, closed, hangs)
        with pytest.raises(httpcore.ConnectTimeout):
            BACKEND.connect_tcp("many.test", port, timeout=0.6)
        with move_on_after(0.3) as scope:
            BACKEND.connect_tcp("many.test", port)
        assert scope.cancelled_caught
        with create_task_group() as tg:
            tg.start_soon(BACKEND.connect_tcp, "many.test", port)
            sleep(0.4)
            tg.cancel_scope.cancel()
        with fail_after(LONG):
            while descriptors() > before + 1:  # an idle worker may keep its own
                sleep(0.01)


def test_families_take_turns():
    def addresses(names: str) -> list[tuple[str, str]]:
        return [(name[0], name) for name in names.split()]

    for given, turns in [("", ""), ("a1", "a1"), ("a1 a2 a3 b1 b2", "a1 b1 a2 b2 a3"), ("b1 a1 a2", "b1 a1 a2")]:
        assert list(_connecting.by_turns(addresses(given))) == addresses(turns)


def test_names_are_looked_up():
    with serving(echo) as port:
        stream = BACKEND.connect_tcp("localhost", port, timeout=LONG)
        stream.write(b"x")
        assert stream.read(1) == b"x"
        stream.close()


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets here")
def test_unix_sockets(tmp_path):
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        stream = BACKEND.connect_unix_socket(path, timeout=LONG)
        connection, _ = listener.accept()
        with connection:
            stream.write(b"hi")
            assert connection.recv(10) == b"hi"
        stream.close()
        waiting = [BACKEND.connect_unix_socket(path)]  # fills the queue
        with pytest.raises(httpcore.ConnectTimeout):
            for _ in range(5):
                waiting.append(BACKEND.connect_unix_socket(path, timeout=0.05))
        with move_on_after(0.05) as scope:
            waiting.append(BACKEND.connect_unix_socket(path))
        assert scope.cancelled_caught
        for stream in waiting:
            stream.close()
    with pytest.raises(httpcore.ConnectError):
        BACKEND.connect_unix_socket(str(tmp_path / "nothing"))


def test_the_backend_sleeps_interruptibly():
    with move_on_after(0.05) as scope:
        BACKEND.sleep(LONG)
    assert scope.cancelled_caught


# --- TLS --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tls() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(server)
    server.set_alpn_protocols(["http/1.1"])
    client = ssl.create_default_context()
    client.set_alpn_protocols(["http/1.1"])
    authority.configure_trust(client)
    return server, client


def test_tls_echo(tls):
    server, client = tls
    with serving(secure(server, echo)) as port, connected(port) as plain:
        stream = plain.start_tls(client, "localhost", timeout=LONG)
        stream.write(b"")
        stream.write(b"hello")
        assert stream.read(2) == b"he"
        assert stream.get_extra_info("is_readable") is True
        assert stream.read(10) == b"llo"
        big = os.urandom(2_000_000)
        with create_task_group() as tg:
            tg.start_soon(stream.write, big)
            assert take_all(stream, len(big)) == big
        info = stream.get_extra_info("ssl_object")
        assert info.selected_alpn_protocol() == "http/1.1"
        assert info.version().startswith("TLSv1.")
        assert info.getpeercert()["subjectAltName"]
        assert stream.get_extra_info("server_addr") == ("127.0.0.1", port)


def test_the_end_of_tls_polite_or_not(tls):
    server, client = tls

    for talk in (polite_end, rude_end):
        with serving(secure(server, talk)) as port, connected(port) as plain:
            stream = plain.start_tls(client, "localhost")
            assert stream.read(10) == b"x"
            assert stream.read(10, timeout=LONG) == b""


def test_tls_reads_time_out_and_are_cancelled(tls):
    server, client = tls
    with serving(secure(server, silent)) as port, connected(port) as plain:
        stream = plain.start_tls(client, "localhost")
        with pytest.raises(httpcore.ReadTimeout):
            stream.read(1, timeout=0.05)
        with move_on_after(0.05) as scope:
            stream.read(1)
        assert scope.cancelled_caught
        with pytest.raises(httpcore.WriteTimeout):
            stream.write(BIG, timeout=0.1)


def test_nothing_follows_a_record_that_was_cut_short(tls):
    server, client = tls
    with serving(secure(server, mute)) as port, connected(port) as plain:
        stream = plain.start_tls(client, "localhost", timeout=LONG)
        with CancelScope() as scope:
            scope.cancel()
            stream.write(b"encrypted, and never sent")
        assert scope.cancelled_caught
        with pytest.raises(httpcore.WriteError, match="cut short"):
            stream.write(b"the next message", timeout=LONG)


def test_small_records_are_put_together(tls):
    server, client = tls

    def in_small_pieces(connection: ssl.SSLSocket, stop: threading.Event) -> None:
        for _ in range(20):
            connection.sendall(b"0123456789")
        stop.wait(LONG)

    with serving(secure(server, in_small_pieces)) as port, connected(port) as plain:
        stream = plain.start_tls(client, "localhost", timeout=LONG)
        sleep(0.1)
        assert stream.read(25, timeout=LONG) == (b"0123456789" * 3)[:25]
        assert len(stream.read(1000, timeout=LONG)) > 10


def test_the_end_reaches_a_reader_while_a_writer_is_stuck(tls):
    server, client = tls

    def leave(connection: ssl.SSLSocket, stop: threading.Event) -> None:
        stop.wait(0.2)
        connection.shutdown(socket.SHUT_WR)
        stop.wait(LONG)

    def write(stream) -> None:
        with move_on_after(LONG):
            stream.write(BIG)

    with serving(secure(server, leave)) as port, connected(port) as plain:
        stream = plain.start_tls(client, "localhost", timeout=LONG)
        started = time.monotonic()
        with create_task_group() as tg:
            tg.start_soon(write, stream)
            assert stream.read(1, timeout=LONG) == b""
            assert time.monotonic() - started < LONG / 2
            tg.cancel_scope.cancel()


def test_what_tls_has_to_say_is_sent_whoever_else_sends(tls):
    """Who sends may take what is there in the middle of another one's step: that one must still notice its own."""
    _, client = tls

    class Lower:
        def __init__(self) -> None:
            self.sent = b""

        def send(self, data: bytes, deadline: float) -> None:
            self.sent += data

    lower = Lower()
    channel = _network.TLSChannel(lower, client, "localhost")
    in_step, others = threading.Event(), threading.Event()

    def step() -> None:
        in_step.set()
        others.wait(0.2)
        channel._outgoing.write(b"mine")

    def send_theirs() -> None:
        assert in_step.wait(LONG)
        channel._flush(LONG, True)
        others.set()

    channel._outgoing.write(b"theirs")
    with create_task_group() as tg:
        tg.start_soon(send_theirs)
        channel._drive(LONG, True, step)
    assert lower.sent == b"theirsmine"


def test_a_handshake_that_is_never_answered(tls):
    _, client = tls
    with serving(silent) as port:
        stream = BACKEND.connect_tcp("127.0.0.1", port)
        with pytest.raises(httpcore.ConnectTimeout):
            stream.start_tls(client, "localhost", timeout=0.1)
        assert stream.get_extra_info("socket").fileno() == -1
        stream = BACKEND.connect_tcp("127.0.0.1", port)
        with move_on_after(0.1) as scope:
            stream.start_tls(client, "localhost")
        assert scope.cancelled_caught
        assert stream.get_extra_info("socket").fileno() == -1


def test_a_certificate_nobody_trusts(tls):
    server, _ = tls
    with serving(secure(server, echo)) as port:
        stream = BACKEND.connect_tcp("127.0.0.1", port)
        with pytest.raises(httpcore.ConnectError, match="certificate verify failed") as caught:
            stream.start_tls(ssl.create_default_context(), "localhost")
        assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
        assert stream.get_extra_info("socket").fileno() == -1


def test_tls_within_tls(tls):
    server, client = tls

    with serving(secure(server, tls_within(server))) as port, connected(port) as plain:
        outer = plain.start_tls(client, "localhost", timeout=LONG)
        stream = outer.start_tls(client, "localhost", timeout=LONG)
        stream.write(b"hello")
        assert stream.read(100, timeout=LONG) == b"HELLO"


# --- through httpcore, and what is left behind ------------------------------------------------------------


def test_requests_through_httpcore(tls):
    server, client = tls
    with (
        serving(answer) as port,
        serving(secure(server, answer)) as secure_port,
        httpcore.ConnectionPool(network_backend=BACKEND, ssl_context=client) as pool,
    ):
        for _ in range(3):
            assert pool.request("GET", f"http://127.0.0.1:{port}/").content == b"ok"
            assert pool.request("GET", f"https://localhost:{secure_port}/").content == b"ok"
        assert len(pool.connections) == 2


def test_a_deadline_ends_a_response_whose_headers_drip():
    with serving(drip_headers) as port, httpcore.ConnectionPool(network_backend=BACKEND) as pool:
        with pytest.raises(TimeoutError), fail_after(0.2):
            pool.request("GET", f"http://127.0.0.1:{port}/")
        assert pool.connections == []


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors in /proc")
def test_no_descriptor_is_left(tls):
    _, client = tls
    with serving(mute) as port, full_backlog() as full_port:
        with connected(port) as stream, move_on_after(0):
            stream.read(1)  # now this thread has its wake descriptor
        before = descriptors()
        for number in range(30):
            with move_on_after(0.002 * (number % 5)):
                with create_task_group() as tg:
                    tg.start_soon(use, port, client if number % 2 else None)
                    tg.start_soon(BACKEND.connect_tcp, "127.0.0.1", full_port)
        # Idle workers may keep one each, and the server needs a moment to see that its clients have left.
        with fail_after(LONG):
            while descriptors() > before + 5:
                sleep(0.01)


def use(port: int, context: ssl.SSLContext | None) -> None:
    with connected(port) as stream:
        if context is not None:
            stream.start_tls(context, "localhost")
        stream.read(1)


# --- systems without eventfd or poll ----------------------------------------------------------------------


@pytest.fixture
def elsewhere(monkeypatch):
    monkeypatch.setattr(_polling, "WakeFd", _polling._SocketPair)
    monkeypatch.setattr(_polling, "_poll", _polling._Select)
    monkeypatch.setattr(_polling, "_local", _polling._Local())


def test_without_eventfd_and_poll(elsewhere):
    with serving(echo) as port, connected(port) as stream:
        stream.write(b"x")
        assert stream.read(1) == b"x"
        with pytest.raises(httpcore.ReadTimeout):
            stream.read(1, timeout=0.05)
        for _ in range(3):
            with create_task_group() as tg:
                tg.start_soon(stream.read, 1)
                sleep(0.02)
                tg.cancel_scope.cancel()
        assert stream.get_extra_info("is_readable") is False
    with serving(silent) as port, connected(port) as stream:
        with move_on_after(0.05) as scope:
            stream.write(BIG)
        assert scope.cancelled_caught
    with pytest.raises(httpcore.ConnectError):
        BACKEND.connect_tcp("127.0.0.1", port)


def test_a_full_wake_descriptor_takes_more():
    for kind in (_polling._SocketPair, _polling.WakeFd):
        wake_fd = kind()
        for _ in range(2000):
            wake_fd.notify()
        wake_fd.drain()
        wake_fd.drain()


# --- one poll object for every wait of a thread -----------------------------------------------------------


def test_waits_for_one_socket_after_the_other():
    with serving(echo) as port, connected(port) as one, connected(port) as two:
        for stream, other in [(one, two), (two, one), (two, one), (one, two)]:
            stream.write(b"x")
            assert stream.read(10, timeout=LONG) == b"x"
            assert other.get_extra_info("is_readable") is False
            with pytest.raises(httpcore.ReadTimeout):
                other.read(1, timeout=0.01)
            stream.write(BIG[:2_000_000])  # waits for the same socket, but for something else
            assert take_all(stream, 2_000_000) == BIG[:2_000_000]


def test_a_descriptor_that_means_another_socket_by_now():
    near, far = socket.socketpair()
    number = near.fileno()
    far.send(b"x")
    assert _polling.wait_socket(near, time.monotonic() + LONG)
    assert _polling.is_readable(near)
    near.close()
    assert _polling.is_readable(near)
    with pytest.raises(OSError, match="descriptor"):
        _polling.wait_socket(near, time.monotonic() + LONG)
    far.close()
    near, far = socket.socketpair()
    with near, far:
        assert number in (near.fileno(), far.fileno())
        for end in (near, far):
            assert not _polling.is_readable(end)
            assert not _polling.wait_socket(end, time.monotonic())
        far.send(b"x")
        assert _polling.is_readable(near)
        assert _polling.wait_socket(near, time.monotonic() + LONG)


def test_a_poll_that_was_interrupted_while_it_turned_to_a_socket():
    """Whatever step of it was the last, the next wait is right."""

    class Interrupting:
        def __init__(self, poll) -> None:
            self.poll = poll._poll
            self.steps = 0

        def step(self, operation, *args):
            self.steps -= 1
            if self.steps == 0:
                raise KeyboardInterrupt
            result = operation(*args)
            self.steps -= 1
            if self.steps == 0:
                raise KeyboardInterrupt
            return result

        def register(self, *args):
            return self.step(self.poll.register, *args)

        def unregister(self, *args):
            return self.step(self.poll.unregister, *args)

    near, far = socket.socketpair()
    other, idle = socket.socketpair()
    with near, far, other, idle:
        far.send(b"x")
        for steps in range(1, 6):
            poll = _polling._Poll(None)
            assert not poll(other.fileno(), False, 0.0)
            honest = poll._poll
            poll._poll = interrupting = Interrupting(poll)
            interrupting.steps = steps
            try:
                poll._turn_to(near.fileno(), 1)
            except KeyboardInterrupt:
                pass
            else:
                assert steps == 5
            poll._poll = honest
            assert not poll(other.fileno(), False, 0.0)
            assert poll(near.fileno(), False, LONG)

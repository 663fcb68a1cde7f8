"""The async network backend: deadlines and cancellation in every operation, on real sockets, on both event loops.

What is marked for one of them looks into that part.
"""

import asyncio
import contextlib
import gc
import hashlib
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
import tracemalloc
import weakref

import anyio
import anyio.lowlevel
import anyio.to_thread
import httpcore
import httpcore2
import pytest
import trustme

from pynector._concurrency.aio import _connecting, _trio
from pynector._concurrency.aio._waiting import Wait
from pynector._concurrency.aio.sockets import network_backend
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
BIG = b"x" * 20_000_000

on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
counts_descriptors = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors in /proc")


@contextlib.asynccontextmanager
async def connected(port: int):
    stream = await BACKEND.connect_tcp("127.0.0.1", port)
    try:
        yield stream
    finally:
        with anyio.CancelScope(shield=True):
            await stream.aclose()


async def take_all(stream: httpcore.AsyncNetworkStream, size: int) -> bytes:
    chunks = []
    while size > 0:
        chunk = await stream.read(65536, timeout=LONG)
        assert chunk
        chunks.append(chunk)
        size -= len(chunk)
    return b"".join(chunks)


async def readable(stream: httpcore.AsyncNetworkStream) -> None:
    with anyio.fail_after(LONG):
        while not stream.get_extra_info("is_readable"):
            await anyio.sleep(0.001)


async def test_bytes_go_both_ways():
    with serving(echo) as port:
        async with connected(port) as stream:
            await stream.write(b"")
            await stream.write(b"hello")
            assert await stream.read(3) == b"hel"
            assert await stream.read(100, timeout=LONG) == b"lo"


async def test_the_end_is_empty_bytes_for_ever():
    with serving(lambda connection, stop: connection.sendall(b"x")) as port:
        async with connected(port) as stream:
            assert await stream.read(100) == b"x"
            for _ in range(3):
                assert await stream.read(100, timeout=LONG) == b""


@pytest.mark.parametrize("module", [httpcore, httpcore2])
async def test_a_backend_and_its_streams_are_the_module_s_own_classes(module):
    backend = network_backend(module)
    assert isinstance(backend, module.AsyncNetworkBackend)
    with serving(silent) as port:
        stream = await backend.connect_tcp("127.0.0.1", port)
        assert isinstance(stream, module.AsyncNetworkStream)
        with pytest.raises(module.ReadTimeout):
            await stream.read(1, timeout=0.01)
        await stream.aclose()


async def test_extra_info():
    with serving(echo) as port:
        async with connected(port) as stream:
            sock = stream.get_extra_info("socket")
            assert stream.get_extra_info("server_addr") == ("127.0.0.1", port)
            assert stream.get_extra_info("client_addr") == sock.getsockname()
            assert stream.get_extra_info("ssl_object") is None
            assert stream.get_extra_info("nonsense") is None
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert stream.get_extra_info("is_readable") is False
            await stream.write(b"x")
            await readable(stream)


async def test_options_and_local_address():
    with serving(echo) as port:
        stream = await BACKEND.connect_tcp(
            "127.0.0.1",
            port,
            timeout=LONG,
            local_address="127.0.0.1",
            socket_options=[(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)],
        )
        assert stream.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        await stream.aclose()
        assert stream.get_extra_info("is_readable") is True
        with pytest.raises(httpcore.ConnectError):
            await BACKEND.connect_tcp("127.0.0.1", port, socket_options=[(socket.SOL_SOCKET, 99999, 1)])
        with pytest.raises(httpcore.ConnectError):
            await BACKEND.connect_tcp("127.0.0.1", port, local_address="192.0.2.1")


# --- the probe --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read_before", [False, True])
async def test_the_probe_sees_an_end_that_the_event_loop_has_not_seen(read_before):
    left = threading.Event()

    def leave(connection: socket.socket, stop: threading.Event) -> None:
        connection.sendall(connection.recv(1))
        connection.recv(1)
        connection.close()
        left.set()

    with serving(leave) as port:
        async with connected(port) as stream:
            await stream.write(b"x")
            if read_before:
                assert await stream.read(100, timeout=LONG) == b"x"
                assert stream.get_extra_info("is_readable") is False
            await stream.write(b"x")
            assert left.wait(LONG)  # and the event loop has had no turn since
            assert stream.get_extra_info("is_readable") is True


async def test_the_probe_still_tells_when_the_event_loop_has_seen_the_end():
    with serving(lambda connection, stop: connection.sendall(connection.recv(1))) as port:
        async with connected(port) as stream:
            await stream.write(b"x")
            assert await stream.read(100, timeout=LONG) == b"x"
            await anyio.sleep(0.05)
            assert stream.get_extra_info("is_readable") is True
            assert await stream.read(100, timeout=LONG) == b""


async def test_bytes_nobody_asked_for_are_seen_and_kept():
    def talk(connection: socket.socket, stop: threading.Event) -> None:
        connection.sendall(connection.recv(100))
        time.sleep(0.02)
        connection.sendall(b"more")
        stop.wait(LONG)

    with serving(talk) as port:
        async with connected(port) as stream:
            await stream.write(b"x")
            assert await stream.read(100, timeout=LONG) == b"x"
            await anyio.sleep(0.05)
            await readable(stream)
            assert await stream.read(2) == b"mo"
            assert stream.get_extra_info("is_readable") is True
            assert await stream.read(100) == b"re"
            assert stream.get_extra_info("is_readable") is False
            with pytest.raises(httpcore.ReadTimeout):
                await stream.read(100, timeout=0.01)


async def test_a_read_that_took_exactly_what_there_was_leaves_nothing_to_see():
    with serving(echo) as port:
        async with connected(port) as stream:
            for _ in range(3):
                await stream.write(b"1234")
                assert await stream.read(4, timeout=LONG) == b"1234"
                assert stream.get_extra_info("is_readable") is False


# --- reading and writing ----------------------------------------------------------------------------------


async def test_its_own_read_timeout():
    with serving(silent) as port:
        async with connected(port) as stream:
            started = time.monotonic()
            with pytest.raises(httpcore.ReadTimeout) as caught:
                await stream.read(1, timeout=0.1)
            assert 0.09 < time.monotonic() - started < LONG / 2
            assert isinstance(caught.value.__cause__, TimeoutError)
            with pytest.raises(httpcore.ReadTimeout):
                await stream.read(1, timeout=0.0)


async def test_a_deadline_ends_a_read():
    with serving(silent) as port:
        async with connected(port) as stream:
            with anyio.move_on_after(0.1) as scope:
                await stream.read(1, timeout=LONG)
            assert scope.cancelled_caught


async def test_a_deadline_ends_a_drip():
    with serving(drip) as port:
        async with connected(port) as stream:
            got = []
            with pytest.raises(TimeoutError), anyio.fail_after(0.2):
                while True:
                    got.append(await stream.read(1, timeout=LONG))
            assert got


async def test_cancel_ends_a_read_at_once():
    with serving(silent) as port:
        async with connected(port) as stream, anyio.create_task_group() as tg:
            tg.start_soon(stream.read, 1)
            await anyio.sleep(0.05)
            tg.cancel_scope.cancel()


async def test_a_cancelled_read_swallows_nothing():
    payload = bytes(range(256)) * 40

    def in_pieces(connection: socket.socket, stop: threading.Event) -> None:
        for start in range(0, len(payload), 16):
            connection.sendall(payload[start : start + 16])
            time.sleep(0.0002)

    with serving(in_pieces) as port:
        async with connected(port) as stream:
            got = b""
            cancelled = 0
            with anyio.fail_after(LONG):
                while len(got) < len(payload):
                    with anyio.move_on_after(0.0005 * (cancelled % 4)) as scope:
                        got += await stream.read(7, timeout=LONG)
                    cancelled += scope.cancelled_caught
            assert got == payload
            assert cancelled


@on_asyncio
async def test_a_cancellation_between_arrival_and_wake_up_swallows_nothing():
    with serving(echo) as port:
        async with connected(port) as stream:
            for _ in range(20):
                task = asyncio.create_task(stream.read(100))
                await asyncio.sleep(0)
                await stream.write(b"precious")
                assert stream._channel._reading.future is not None
                while not stream._channel._reading.future.done():
                    await asyncio.sleep(0)
                    if task.done():
                        break
                    if stream._channel._arrived is not None:
                        task.cancel()
                try:
                    got = await task
                except asyncio.CancelledError:
                    got = await stream.read(3, timeout=LONG) + await stream.read(100, timeout=LONG)
                assert got == b"precious"


@on_asyncio
async def test_native_cancellation_comes_through_unchanged():
    with serving(silent) as port:
        async with connected(port) as stream:
            task = asyncio.create_task(stream.read(1, timeout=LONG))
            await asyncio.sleep(0.02)
            task.cancel("because")
            with pytest.raises(asyncio.CancelledError, match="because"):
                await task
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await stream.read(1, timeout=LONG)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(stream.write(BIG, timeout=LONG), 0.05)
            current = asyncio.current_task()
            assert current is not None
            assert current.cancelling() == 0


async def test_writing_to_a_server_that_does_not_read_times_out():
    with serving(silent) as port:
        async with connected(port) as stream:
            with pytest.raises(httpcore.WriteTimeout) as caught:
                await stream.write(BIG, timeout=0.1)
            assert isinstance(caught.value.__cause__, TimeoutError)


async def test_a_deadline_ends_a_write():
    with serving(silent) as port:
        async with connected(port) as stream:
            with anyio.move_on_after(0.1) as scope:
                await stream.write(BIG)
            assert scope.cancelled_caught


async def test_cancel_ends_a_write():
    with serving(silent) as port:
        async with connected(port) as stream, anyio.create_task_group() as tg:
            tg.start_soon(stream.write, BIG)
            await anyio.sleep(0.1)
            tg.cancel_scope.cancel()


async def test_an_upload_nobody_reads_and_an_answer_nobody_fetches_take_no_memory():
    sent = []

    def flood(connection: socket.socket, stop: threading.Event) -> None:
        connection.settimeout(0.2)
        with contextlib.suppress(TimeoutError):
            while True:
                sent.append(connection.send(BIG[:65536]))

    with serving(silent) as deaf, serving(flood) as port:
        async with connected(deaf) as upload, connected(port) as download:
            first = await download.read(10, timeout=LONG)
            tracemalloc.start()
            try:
                with pytest.raises(httpcore.WriteTimeout):
                    await upload.write(BIG, timeout=0.4)
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert peak < 1_000_000
            # Nor is anything lost of what stayed behind.
            total = len(first)
            while data := await download.read(65536, timeout=LONG):
                total += len(data)
            assert total == sum(sent)


async def test_big_bodies_arrive_both_ways():
    body = os.urandom(5_000_000)
    with serving(echo) as port:
        async with connected(port) as stream, anyio.create_task_group() as tg:
            tg.start_soon(stream.write, body)
            got = await take_all(stream, len(body))
            assert hashlib.sha256(got).digest() == hashlib.sha256(body).digest()


async def test_a_peer_that_is_always_ready_does_not_keep_other_tasks_out():
    def source(connection: socket.socket, stop: threading.Event) -> None:
        while not stop.is_set():
            connection.sendall(BIG[:1_000_000])

    async def pull(stream) -> None:
        while await stream.read(65536):
            pass

    async def push(stream) -> None:
        while True:
            await stream.write(BIG[:65536])

    with serving(source) as sending, serving(mute) as taking:
        async with connected(sending) as one, connected(taking) as other:
            turns = 0
            with anyio.move_on_after(0.3):
                async with anyio.create_task_group() as tg:
                    tg.start_soon(pull, one)
                    tg.start_soon(push, other)
                    while True:
                        await anyio.lowlevel.checkpoint()
                        turns += 1
            assert turns > 5


async def test_nothing_follows_a_write_that_was_cut_short():
    with serving(silent) as port:
        for timeout, patience in ((0.05, LONG), (LONG, 0.05)):
            async with connected(port) as stream:
                with contextlib.suppress(httpcore.WriteTimeout), anyio.move_on_after(patience):
                    await stream.write(BIG, timeout=timeout)
                with pytest.raises(httpcore.WriteError, match="cut short"):
                    await stream.write(b"the next message", timeout=LONG)


async def test_errors_have_httpcore_s_names_and_their_cause():
    with serving(reset) as port:
        async with connected(port) as stream:
            await stream.write(b"x")
            with pytest.raises(httpcore.ReadError) as caught:
                for _ in range(100):
                    await stream.read(1, timeout=LONG)
            assert isinstance(caught.value.__cause__, OSError)
            with pytest.raises(httpcore.WriteError):
                for _ in range(100):
                    await stream.write(b"x" * 1000, timeout=LONG)
                    await anyio.sleep(0.001)
            await stream.aclose()
            with pytest.raises(httpcore.ReadError):
                await stream.read(1)
            with pytest.raises(httpcore.WriteError):
                await stream.write(b"x")


async def test_closing_ends_the_waits_of_other_tasks():
    outcomes = []

    async def outcome(operation, *args) -> None:
        try:
            await operation(*args)
        except httpcore.NetworkError as error:
            outcomes.append(type(error))

    with serving(silent) as port:
        stream = await BACKEND.connect_tcp("127.0.0.1", port)
        async with anyio.create_task_group() as tg:
            tg.start_soon(outcome, stream.read, 1)
            tg.start_soon(outcome, stream.write, BIG)
            await anyio.sleep(0.05)
            await stream.aclose()
            await stream.aclose()
        assert set(outcomes) == {httpcore.ReadError, httpcore.WriteError}


async def test_one_reader_and_one_writer_at_a_time():
    with serving(silent) as port:
        async with connected(port) as stream, anyio.create_task_group() as tg:
            tg.start_soon(stream.read, 1)
            tg.start_soon(stream.write, BIG)
            await anyio.sleep(0.05)
            with pytest.raises(RuntimeError, match="another task"):
                await stream.read(1)
            with pytest.raises(RuntimeError, match="another task"):
                await stream.write(b"in between")
            tg.cancel_scope.cancel()


@counts_descriptors
async def test_a_body_read_by_half_and_closed():
    with serving(lambda connection, stop: connection.sendall(BIG)) as port:
        async with connected(port) as stream:
            await stream.read(1)
        before = descriptors()
        for _ in range(5):
            async with connected(port) as stream:
                await stream.read(1000, timeout=LONG)
        await back_to(before)


async def back_to(before: int) -> None:
    """Wait until the server has seen that its clients have left."""
    with anyio.fail_after(LONG):
        while descriptors() > before:
            await anyio.sleep(0.01)


# --- connecting -------------------------------------------------------------------------------------------


async def test_nobody_listens():
    with pytest.raises(httpcore.ConnectError) as caught:
        await BACKEND.connect_tcp("127.0.0.1", closed_port())
    assert isinstance(caught.value.__cause__, OSError)


async def test_its_own_connect_timeout():
    with full_backlog() as port, pytest.raises(httpcore.ConnectTimeout):
        await BACKEND.connect_tcp("127.0.0.1", port, timeout=0.1)


async def test_a_deadline_ends_a_connect():
    with full_backlog() as port:
        with anyio.move_on_after(0.1) as scope:
            await BACKEND.connect_tcp("127.0.0.1", port)
        assert scope.cancelled_caught


async def test_cancel_ends_a_connect():
    with full_backlog() as port:
        async with anyio.create_task_group() as tg:
            tg.start_soon(BACKEND.connect_tcp, "127.0.0.1", port)
            await anyio.sleep(0.05)
            tg.cancel_scope.cancel()


async def test_a_deadline_ends_a_slow_lookup(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", slow_lookup)
    started = time.monotonic()
    with anyio.move_on_after(0.05) as scope:
        await BACKEND.connect_tcp("slow.test", 80)
    assert scope.cancelled_caught
    assert time.monotonic() - started < 0.45
    with pytest.raises(httpcore.ConnectTimeout, match="lookup"):
        await BACKEND.connect_tcp("slow.test", 80, timeout=0.05)
    with pytest.raises(httpcore.ConnectError, match="no address"):
        await BACKEND.connect_tcp("slow.test", 80)


@pytest.mark.parametrize("anyio_backend", ["trio"], indirect=True)
async def test_lookups_that_hang_take_no_threads_of_trio_s(monkeypatch):
    released = threading.Event()

    def hang(*args: int) -> list[object]:
        if not (len(args) > 5 and args[5] & socket.AI_NUMERICHOST):
            released.wait(LONG)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def time_out() -> None:
        with pytest.raises(httpcore.ConnectTimeout):
            await BACKEND.connect_tcp("slow.test", 80, timeout=0.01)

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    try:
        async with anyio.create_task_group() as tg:
            for _ in range(50):
                tg.start_soon(time_out)
        with anyio.fail_after(LONG / 2):
            await anyio.to_thread.run_sync(time.monotonic)
    finally:
        released.set()


async def test_a_failed_lookup(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", failed_lookup)
    with pytest.raises(httpcore.ConnectError) as caught:
        await BACKEND.connect_tcp("nowhere.test", 80)
    assert isinstance(caught.value.__cause__, socket.gaierror)
    # Nor does it keep anything alive.
    gone = weakref.ref(caught.value.__cause__)
    gc.disable()
    try:
        del caught
        await anyio.lowlevel.checkpoint()
        assert gone() is None
    finally:
        gc.enable()


async def test_names_are_looked_up():
    with serving(echo) as port:
        stream = await BACKEND.connect_tcp("localhost", port, timeout=LONG)
        await stream.write(b"x")
        assert await stream.read(1) == b"x"
        await stream.aclose()


def addresses_are(monkeypatch, *addresses) -> None:
    async def resolve(*args):
        return list(addresses)

    monkeypatch.setattr(_connecting, "resolve", resolve)
    monkeypatch.setattr(_trio, "_resolve", resolve)


FAMILY = (socket.AF_INET, socket.SOCK_STREAM, 0, "")


@counts_descriptors
async def test_all_addresses_are_tried(monkeypatch):
    with serving(echo) as port, full_backlog() as full:
        closed = (*FAMILY, ("127.0.0.1", closed_port()))
        hangs = (*FAMILY, ("127.0.0.1", full))
        works = (*FAMILY, ("127.0.0.1", port))
        before = descriptors()
        for order in ([closed, works], [(9999, 9999, 0, "", None), works], [hangs, closed, hangs, works]):
            addresses_are(monkeypatch, *order)
            stream = await BACKEND.connect_tcp("many.test", port, timeout=LONG)
            assert stream.get_extra_info("server_addr") == ("127.0.0.1", port)
            await stream.aclose()
        addresses_are(monkeypatch, closed, closed)
        with pytest.raises(httpcore.ConnectError) as caught:
            await BACKEND.connect_tcp("many.test", port)
        assert isinstance(caught.value.__cause__, ConnectionRefusedError)
        addresses_are(monkeypatch, hangs, closed, hangs)
        with pytest.raises(httpcore.ConnectTimeout):
            await BACKEND.connect_tcp("many.test", port, timeout=0.6)
        with anyio.move_on_after(0.3) as scope:
            await BACKEND.connect_tcp("many.test", port)
        assert scope.cancelled_caught
        await back_to(before)


def test_families_take_turns():
    def addresses(names: str) -> list[tuple[str, str]]:
        return [(name[0], name) for name in names.split()]

    for given, turns in [("", ""), ("a1", "a1"), ("a1 a2 a3 b1 b2", "a1 b1 a2 b2 a3"), ("b1 a1 a2", "b1 a1 a2")]:
        assert list(_connecting.by_turns(addresses(given))) == addresses(turns)


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets here")
async def test_unix_sockets(tmp_path):
    path = str(tmp_path / "s")
    with serving(echo, path):
        stream = await BACKEND.connect_unix_socket(path, timeout=LONG)
        await stream.write(b"hi")
        assert await take_all(stream, 2) == b"hi"
        assert stream.get_extra_info("is_readable") is False
        await stream.aclose()
    with pytest.raises(httpcore.ConnectError):
        await BACKEND.connect_unix_socket(str(tmp_path / "nothing"))


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets here")
async def test_a_unix_socket_whose_queue_is_full(tmp_path):
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        waiting = [await BACKEND.connect_unix_socket(path)]  # fills the queue
        with pytest.raises(httpcore.ConnectTimeout):
            for _ in range(5):
                waiting.append(await BACKEND.connect_unix_socket(path, timeout=0.05))
        with anyio.move_on_after(0.05) as scope:
            waiting.append(await BACKEND.connect_unix_socket(path))
        assert scope.cancelled_caught
        for stream in waiting:
            await stream.aclose()


async def test_the_backend_sleeps_interruptibly():
    with anyio.move_on_after(0.05) as scope:
        await BACKEND.sleep(LONG)
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


@contextlib.asynccontextmanager
async def secured(port: int, context: ssl.SSLContext):
    async with connected(port) as plain:
        yield await plain.start_tls(context, "localhost", timeout=LONG)


async def test_tls_echo(tls):
    server, client = tls
    with serving(secure(server, echo)) as port:
        async with secured(port, client) as stream:
            await stream.write(b"")
            await stream.write(b"hello")
            assert await stream.read(2) == b"he"
            assert await stream.read(10) == b"llo"
            big = os.urandom(2_000_000)
            async with anyio.create_task_group() as tg:
                tg.start_soon(stream.write, big)
                assert await take_all(stream, len(big)) == big
            info = stream.get_extra_info("ssl_object")
            assert info.selected_alpn_protocol() == "http/1.1"
            assert info.version().startswith("TLSv1.")
            assert stream.get_extra_info("server_addr") == ("127.0.0.1", port)


async def test_what_tls_has_decrypted_is_seen_and_pieces_are_put_together(tls):
    server, client = tls
    with serving(secure(server, echo)) as port:
        async with secured(port, client) as stream:
            await stream.write(b"hello")
            assert await stream.read(2) == b"he"
            assert stream.get_extra_info("is_readable") is True
            assert await stream.read(10) == b"llo"
            assert stream.get_extra_info("is_readable") is False
            for size in (1, 16384, 16385, 50_000, 70_000):
                data = os.urandom(size)
                await stream.write(data)
                await anyio.sleep(0.02)
                got = [await stream.read(60_000, timeout=LONG)]
                while sum(map(len, got)) < size:
                    got.append(await stream.read(60_000, timeout=LONG))
                assert max(map(len, got)) <= 60_000
                assert b"".join(got) == data


async def test_the_end_of_tls_polite_or_not(tls):
    server, client = tls
    for talk in (polite_end, rude_end):
        with serving(secure(server, talk)) as port:
            async with secured(port, client) as stream:
                assert await stream.read(10) == b"x"
                assert await stream.read(10, timeout=LONG) == b""


async def test_tls_reads_time_out_and_are_cancelled(tls):
    server, client = tls
    with serving(secure(server, silent)) as port:
        async with secured(port, client) as stream:
            with pytest.raises(httpcore.ReadTimeout):
                await stream.read(1, timeout=0.05)
            with anyio.move_on_after(0.05) as scope:
                await stream.read(1)
            assert scope.cancelled_caught
            with pytest.raises(httpcore.WriteTimeout):
                await stream.write(BIG, timeout=0.1)


async def test_nothing_follows_a_record_that_was_cut_short(tls):
    server, client = tls
    with serving(secure(server, silent)) as port:
        async with secured(port, client) as stream:
            with contextlib.suppress(httpcore.WriteTimeout):
                await stream.write(BIG, timeout=0.1)
            with pytest.raises(httpcore.WriteError, match="cut short"):
                await stream.write(b"the next message", timeout=LONG)
    with serving(secure(server, mute)) as port:
        async with secured(port, client) as stream:
            with anyio.CancelScope() as scope:
                scope.cancel()
                await stream.write(b"encrypted, and maybe never sent")
            if scope.cancelled_caught:  # on asyncio it was sent
                with pytest.raises(httpcore.WriteError, match="cut short"):
                    await stream.write(b"the next message", timeout=LONG)


async def test_the_end_reaches_a_reader_while_a_writer_is_stuck(tls):
    server, client = tls

    def leave(connection: ssl.SSLSocket, stop: threading.Event) -> None:
        stop.wait(0.2)
        connection.shutdown(socket.SHUT_WR)
        stop.wait(LONG)

    with serving(secure(server, leave)) as port:
        async with secured(port, client) as stream:
            started = time.monotonic()
            async with anyio.create_task_group() as tg:
                tg.start_soon(stream.write, BIG)
                assert await stream.read(1, timeout=LONG) == b""
                assert time.monotonic() - started < LONG / 2
                tg.cancel_scope.cancel()


async def test_a_handshake_that_is_never_answered(tls):
    _, client = tls
    with serving(silent) as port:
        async with connected(port) as stream:
            with pytest.raises(httpcore.ConnectTimeout):
                await stream.start_tls(client, "localhost", timeout=0.1)
        async with connected(port) as stream:
            with anyio.move_on_after(0.1) as scope:
                await stream.start_tls(client, "localhost")
            assert scope.cancelled_caught


async def test_a_failed_handshake_closes_the_socket(tls):
    server, client = tls
    with serving(silent) as port, serving(secure(server, echo)) as strange, serving(answer) as plain:
        stream = await BACKEND.connect_tcp("127.0.0.1", port)
        with anyio.move_on_after(0.05):
            await stream.start_tls(client, "localhost")
        assert stream.get_extra_info("socket").fileno() == -1
        stream = await BACKEND.connect_tcp("127.0.0.1", strange)
        with pytest.raises(httpcore.ConnectError, match="certificate verify failed") as caught:
            await stream.start_tls(ssl.create_default_context(), "localhost")
        assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
        assert stream.get_extra_info("socket").fileno() == -1
        stream = await BACKEND.connect_tcp("127.0.0.1", plain)
        with pytest.raises(httpcore.ConnectError):
            await stream.start_tls(client, "localhost", timeout=LONG)
        assert stream.get_extra_info("socket").fileno() == -1


async def test_tls_within_tls(tls):
    server, client = tls
    with serving(secure(server, tls_within(server))) as port:
        async with secured(port, client) as outer:
            stream = await outer.start_tls(client, "localhost", timeout=LONG)
            await stream.write(b"hello")
            assert await stream.read(100, timeout=LONG) == b"HELLO"


# --- through httpcore, and what is left behind ------------------------------------------------------------


@pytest.mark.parametrize("module", [httpcore, httpcore2])
async def test_requests_through_httpcore(tls, module):
    server, client = tls
    with serving(answer) as port, serving(secure(server, answer)) as secure_port:
        async with module.AsyncConnectionPool(network_backend=network_backend(module), ssl_context=client) as pool:
            for _ in range(3):
                assert (await pool.request("GET", f"http://127.0.0.1:{port}/")).content == b"ok"
                assert (await pool.request("GET", f"https://localhost:{secure_port}/")).content == b"ok"
            assert len(pool.connections) == 2


async def test_a_deadline_ends_a_response_whose_headers_drip():
    with serving(drip_headers) as port:
        async with httpcore.AsyncConnectionPool(network_backend=BACKEND) as pool:
            with pytest.raises(TimeoutError), anyio.fail_after(0.2):
                await pool.request("GET", f"http://127.0.0.1:{port}/")
            assert pool.connections == []


async def whole_exchange(port: int, context: ssl.SSLContext, done: anyio.Event | None = None) -> None:
    async with connected(port) as plain:
        stream = await plain.start_tls(context, "localhost", timeout=LONG)
        await stream.write(b"GET / HTTP/1.1\r\n\r\n")
        assert (await stream.read(100)).endswith(b"ok")
        if done is not None:
            done.set()


@counts_descriptors
async def test_cancelled_at_every_moment_nothing_is_left(tls):
    server, client = tls
    with serving(secure(server, answer)) as port, serving(mute) as mute_port, full_backlog() as full_port:
        await whole_exchange(port, client)
        before = descriptors()
        complete = False
        for moment in range(200):
            async with anyio.create_task_group() as tg:
                done = anyio.Event()
                tg.start_soon(whole_exchange, port, client, done)
                tg.start_soon(whole_exchange, mute_port, client)
                tg.start_soon(BACKEND.connect_tcp, "127.0.0.1", full_port)
                for _ in range(moment):
                    # Time for the server too, or the exchange gets nowhere in so few turns of the event loop.
                    await anyio.sleep(0.0005 if moment > 5 else 0)
                complete = done.is_set()
                tg.cancel_scope.cancel()
            if complete and moment > 20:
                break
        assert complete
        await back_to(before)


SCRIPT = """
import asyncio, gc, socket, sys, time
import httpcore
from pynector._concurrency.aio.sockets import network_backend

backend = network_backend(httpcore)
port = int(sys.argv[1])
left = []

async def first():
    done = await backend.connect_tcp("localhost", port)
    await done.write(b"x")
    await done.read(1, timeout=5)
    await done.aclose()
    forgotten = await backend.connect_tcp("127.0.0.1", port)
    await forgotten.write(b"x" * 100_000)
    await forgotten.read(10, timeout=5)
    del forgotten
    kept = await backend.connect_tcp("127.0.0.1", port)
    await kept.write(b"x")
    await kept.read(1, timeout=5)
    left.append(kept)
    task = asyncio.create_task(kept.read(1))
    await asyncio.sleep(0.01)
    task.cancel()
    real = socket.getaddrinfo
    def slow(*args):
        if len(args) > 5:
            return real(*args)
        time.sleep(60)
    socket.getaddrinfo = slow
    try:
        await backend.connect_tcp("slow.test", port, timeout=0.05)
    except httpcore.ConnectTimeout:
        pass
    global abandoned
    abandoned = asyncio.create_task(kept.read(1, timeout=5))
    await asyncio.sleep(0.01)

async def second():
    [kept] = left
    # Of another event loop: no good, but to be closed.
    assert kept.get_extra_info("is_readable") is True
    await kept.aclose()
    assert kept.get_extra_info("socket").fileno() == -1
    unclosed = await backend.connect_tcp("127.0.0.1", port)
    await unclosed.write(b"x")

asyncio.run(first())
gc.collect()
asyncio.run(second())
gc.collect()
print("fine")
"""


def test_silent_under_the_strictest_rules():
    """No warning about sockets, tasks or threads, and no lookup that was left behind keeps the interpreter."""
    with serving(echo) as port:
        done = subprocess.run(
            [sys.executable, "-X", "dev", "-W", "error", "-c", SCRIPT, str(port)],
            capture_output=True,
            text=True,
            timeout=LONG,
        )
    assert (done.stdout, done.stderr, done.returncode) == ("fine\n", "", 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork() here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@on_asyncio
async def test_a_forked_child_that_closes_a_connection_does_not_touch_its_parent_s():
    with serving(echo) as port:
        async with connected(port) as stream:
            await stream.write(b"x")
            assert await stream.read(100, timeout=5) == b"x"
            pid = os.fork()
            if pid == 0:
                try:
                    stream._channel.close()
                finally:
                    os._exit(0)
            os.waitpid(pid, 0)
            await stream.write(b"y")
            assert await stream.read(100, timeout=5) == b"y"


# --- waiting without timers -------------------------------------------------------------------------------


@on_asyncio
async def test_a_timer_serves_many_waits():
    class CountingLoop:
        def __init__(self) -> None:
            self._loop = asyncio.get_running_loop()
            self.create_future = self._loop.create_future
            self.timers = 0

        def call_at(self, *args):
            self.timers += 1
            return self._loop.call_at(*args)

    loop = CountingLoop()
    now = asyncio.get_running_loop().time
    wait = Wait(loop)

    async def wait_for(seconds: float, wake: bool) -> bool:
        future = wait.begin(now() + seconds)
        if wake:
            asyncio.get_running_loop().call_soon(wait.wake)
        try:
            return await future
        finally:
            wait.end()

    for _ in range(10):
        assert await wait_for(0.1, wake=True)
    assert loop.timers == 1
    started = now()
    assert not await wait_for(0.2, wake=False)  # the timer comes too early, and is set again
    assert now() - started >= 0.199
    assert loop.timers == 2
    assert await wait_for(LONG, wake=True)
    started = now()
    assert not await wait_for(0.02, wake=False)  # the timer would come too late
    assert now() - started < LONG / 2
    assert loop.timers == 4
    assert await wait_for(0.02, wake=True)
    await asyncio.sleep(0.05)  # the timer finds nobody
    assert loop.timers == 5
    future = wait.begin(now() + LONG)
    wait.close()
    assert await future
    wait.end()
    wait.wake()

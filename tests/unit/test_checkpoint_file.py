"""The checkpoint file: what is written comes back, whatever happens to the process, the disk or the file."""

import gc
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pynector import errors
from pynector._checkpoint import file as file_module
from pynector._checkpoint import lock as lock_module
from pynector._checkpoint.file import CheckpointFile
from pynector._messages.http import HttpMessage
from pynector._messages.outcome import Outcome
from pynector.errors import CheckpointError, ClosedError, ConfigurationError, SerializationError

posix = pytest.mark.skipif(sys.platform == "win32", reason="there is no such thing on Windows")


@contextmanager
def opened(path, fingerprint="job", **options):
    checkpoint = CheckpointFile(path, fingerprint, **options)
    checkpoint.open()
    with closing(checkpoint):
        yield checkpoint


def ok(index, value="answer"):
    return Outcome(index=index, value=value, attempts=1, elapsed=0.5, request_id=f"r{index}")


def failed(index, text="it failed", state="failed"):
    error = errors.ConnectionError(text, attempts=4, elapsed=2.0)
    return Outcome(index=index, error=error, state=state, attempts=4, elapsed=2.0)


def fill(path, count):
    with opened(path) as checkpoint:
        for n in range(count):
            checkpoint.write(ok(n, {"n": n}), f"k{n}")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.jsonl"


# --- what is written comes back


def test_an_outcome_comes_back(path):
    answer = HttpMessage.response(status_code=200, content=b'{"a": 1}', url="http://h/a", elapsed=0.25)
    outcome = Outcome(
        index=3, key="k", request="old", value=answer, attempts=2, elapsed=1.5, usage={"tokens": 7}, request_id="r-1"
    )
    with opened(path) as checkpoint:
        assert checkpoint.outcome("k", 3, None) is None
        checkpoint.write(outcome, "k")
        assert checkpoint.outcome("k", 3, "item").value == answer
    with opened(path) as checkpoint:
        restored = checkpoint.outcome("k", 5, "item")
        assert restored == Outcome(
            index=5,
            key="k",
            request="item",
            value=answer,
            attempts=2,
            elapsed=1.5,
            usage={"tokens": 7},
            request_id="r-1",
            source="checkpoint",
        )
        assert len(checkpoint) == 1
        assert checkpoint.outcome("other", 0, None) is None
        assert repr(checkpoint) == f"<CheckpointFile {str(path)!r} open, 1 items>"


def test_the_file_is_json_lines(path):
    fill(path, 2)
    header, *records = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    assert (header["pynector_checkpoint"], header["fingerprint"]) == (1, "job")
    assert time.strptime(header["created"], "%Y-%m-%dT%H:%M:%SZ")
    assert records[1] == {
        "key": "k1",
        "index": 1,
        "state": "ok",
        "value": {"plain": {"n": 1}},
        "attempts": 1,
        "elapsed": 0.5,
        "usage": None,
        "request_id": "r1",
    }


def test_no_credential_of_a_request_is_written(path):
    request = HttpMessage("GET", "http://h/a?token=hunter2", headers={"Authorization": "hunter2"})
    answer = HttpMessage.response(status_code=200, request=request)
    refused = HttpMessage.response(status_code=500, request=request)
    with opened(path) as checkpoint:
        checkpoint.write(Outcome(index=0, request=request, value=answer, attempts=1), "a")
        error = errors.status_error(refused)
        checkpoint.write(Outcome(index=1, request=request, error=error, state="failed", attempts=1), "b")
    assert len(path.read_bytes().splitlines()) == 3
    assert b"hunter2" not in path.read_bytes()


def test_failed_items_are_done_again(path):
    with opened(path) as checkpoint:
        checkpoint.write(failed(0), "a")
        checkpoint.write(failed(1, state="unknown"), "b")
        assert len(checkpoint) == 0
        assert bool(checkpoint)
    with opened(path) as checkpoint:
        assert checkpoint.finished("a") is None
        assert checkpoint.outcome("a", 0, None) is None
        checkpoint.write(ok(0), "a")
        assert len(checkpoint) == 1
    with opened(path, retry_failed=False) as checkpoint:
        assert checkpoint.outcome("a", 0, None).value == "answer"
        unknown = checkpoint.outcome("b", 7, "item")
        assert (unknown.state, unknown.index, unknown.attempts, unknown.source) == ("unknown", 7, 4, "checkpoint")
        assert type(unknown.error) is errors.ConnectionError
        assert (str(unknown.error), unknown.error.attempts) == ("it failed", 4)
        assert len(checkpoint) == 2


def test_a_failure_does_not_hide_an_answer(path):
    with opened(path) as checkpoint:
        checkpoint.write(ok(0), "a")
        checkpoint.write(failed(0), "a")
        assert checkpoint.outcome("a", 0, None).ok
    with opened(path) as checkpoint:
        assert checkpoint.outcome("a", 0, None).ok
        checkpoint.write(ok(0, "newer"), "a")
        assert checkpoint.outcome("a", 0, None).value == "newer"
        assert len(checkpoint) == 1


def test_what_is_not_written(path):
    with opened(path) as checkpoint:
        before = path.read_bytes()
        error = errors.TimeoutError("late")
        checkpoint.write(Outcome(index=0, error=error, state="not_sent"), "a")
        checkpoint.write(Outcome(index=0, value=1, source="checkpoint"), "b")
    assert path.read_bytes() == before


def test_an_answer_that_cannot_be_kept(path):
    with opened(path) as checkpoint:
        before = path.read_bytes()
        for value in (object(), [10**5000]):
            with pytest.raises(SerializationError):
                checkpoint.write(ok(0, value), "a")
        assert path.read_bytes() == before
        checkpoint.write(ok(1), "b")
        assert checkpoint.finished("a") is None


def test_an_answer_that_cannot_be_made_again(path):
    with opened(path, encode=str, decode=int) as checkpoint:
        checkpoint.write(ok(0, 7), "a")
        assert checkpoint.outcome("a", 0, None).value == 7
    with (
        opened(path) as checkpoint,
        pytest.raises(CheckpointError, match=r"run\.jsonl: the answer of item 'a' .*decode="),
    ):
        checkpoint.outcome("a", 0, None)


def test_usage_of_a_class(path):
    with opened(path, usage_type=lambda **fields: sorted(fields.items())) as checkpoint:
        checkpoint.write(Outcome(index=0, value=1, attempts=1, usage={"b": 1, "a": 2}), "a")
        assert checkpoint.outcome("a", 0, None).usage == [("a", 2), ("b", 1)]


KEYS = st.sampled_from(["a", "b", "", "é\n", "\ud800", "x" * 300])
OUTCOMES = st.builds(
    lambda good, state, value: ok(0, value) if good else failed(0, repr(value), state),
    st.booleans(),
    st.sampled_from(["failed", "unknown"]),
    st.none() | st.text() | st.binary() | st.lists(st.integers(), max_size=3) | st.just("y" * 40_000),
)
STEPS = st.lists(
    st.tuples(st.just("write"), KEYS, OUTCOMES)
    | st.tuples(st.sampled_from(["reopen", "kill"]), st.binary(max_size=30), st.none()),
    max_size=12,
)


@settings(deadline=None, max_examples=60)
@given(STEPS, st.booleans())
def test_a_file_is_a_dict_that_stays(steps, retry_failed):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "run.jsonl")
        expected = {}
        checkpoint = CheckpointFile(path, "job", retry_failed=retry_failed, sync_interval=math.inf)
        checkpoint.open()
        for step, what, outcome in steps:
            if step == "write":
                checkpoint.write(outcome, what)
                if outcome.ok or what not in expected or not expected[what].ok:
                    expected[what] = outcome
            else:
                checkpoint.close()
                if step == "kill":  # in the middle of a record
                    with path.open("ab") as file:
                        file.write(b'{"key":' + what.replace(b"\n", b""))
                checkpoint.open()
            finished = {key: each for key, each in expected.items() if each.ok or not retry_failed}
            assert len(checkpoint) == len(finished)
            for key in ("a", "b", "", "é\n", "\ud800", "x" * 300):
                found = checkpoint.outcome(key, 0, None)
                assert (found is not None) is (key in finished)
                if found is not None:
                    assert (found.value, found.state, found.key) == (finished[key].value, finished[key].state, key)
                    assert str(found.error) == str(finished[key].error)
        checkpoint.close()


# --- files that are not whole


def test_a_file_that_was_cut_anywhere_loses_the_last_item_at_most(path):
    fill(path, 4)
    whole = path.read_bytes()
    ends = [n + 1 for n, byte in enumerate(whole) if byte == ord("\n")]
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        complete = max(sum(end <= length for end in ends) - 1, 0)
        with opened(path, sync_interval=math.inf) as checkpoint:
            assert len(checkpoint) == complete
            assert [checkpoint.finished(f"k{n}") is not None for n in range(4)] == [n < complete for n in range(4)]
            checkpoint.write(ok(9), "new")
        with opened(path) as checkpoint:
            assert len(checkpoint) == complete + 1
            assert checkpoint.outcome("new", 0, None).value == "answer"


@pytest.mark.parametrize("tail", [b"\0" * 50, b"{}\n", b"\n", b"null\n", b"\xff\xfe\n", b'{"key":"x"}\n', b"[" * 5000])
def test_a_last_line_that_is_no_record_is_cut_off(path, tail):
    fill(path, 2)
    whole = path.read_bytes()
    path.write_bytes(whole + tail)
    with opened(path) as checkpoint:
        assert len(checkpoint) == 2
    assert path.read_bytes() == whole


RECORD = {"key": "a", "index": 0, "state": "ok", "value": {"plain": 1}}


@pytest.mark.parametrize(
    "changed",
    [
        {"key": None},
        {"key": {"$": "text", "value": "?"}},
        {"index": "0"},
        {"state": "not_sent"},
        {"state": ["ok"]},
        {"state": "failed"},
    ],
)
def test_a_damaged_line_is_named(path, changed):
    fill(path, 3)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = json.dumps(RECORD | changed).encode() + b"\n"
    path.write_bytes(b"".join(lines))
    with pytest.raises(CheckpointError, match=r"run\.jsonl: line 3 is damaged; remove it"):
        CheckpointFile(path, "job").open()
    assert path.read_bytes() == b"".join(lines)
    path.write_bytes(b"".join(lines[:2] + lines[3:]))
    with opened(path) as checkpoint:
        assert [checkpoint.finished(f"k{n}") is not None for n in range(3)] == [True, False, True]


def test_a_line_that_was_torn_in_the_middle_is_named(path):
    fill(path, 3)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1][:20]
    path.write_bytes(b"".join(lines))
    with pytest.raises(CheckpointError, match="line 2 is damaged"):
        CheckpointFile(path, "job").open()


@pytest.mark.parametrize(
    "content",
    [
        b"hello",
        b"hello\n",
        b"\n",
        b"{}\n",
        b'{"custom_id": "a"}\n',
        b'{"pynector_checkpoint": true, "fingerprint": "job", "run": "r"}\n',
        b'{"pynector_checkpoint":1,"fingerprint":7,"run":"r"}\n',
        b'{"pynector_checkpoint":' + b"1" * 5000,
        b"\x89PNG" + bytes(10_000),
    ],
)
def test_a_file_that_is_no_checkpoint_is_left_alone(path, content):
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"run\.jsonl: it is no checkpoint file of Pynector .*another path"):
        CheckpointFile(path, "job").open()
    assert path.read_bytes() == content


@pytest.mark.parametrize("end", [b"\n", b""])
def test_a_file_of_a_newer_version_is_left_alone(path, end):
    content = b'{"pynector_checkpoint":2,"fingerprint":"job"}' + end
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="format 2, and this version of Pynector reads format 1"):
        CheckpointFile(path, "job").open()
    assert path.read_bytes() == content


def test_a_file_of_another_job_is_left_alone(path):
    fill(path, 1)
    content = path.read_bytes()
    with pytest.raises(CheckpointError, match=r"run\.jsonl: it belongs to another job: .*another path"):
        CheckpointFile(path, "another").open()
    assert path.read_bytes() == content
    fill(path, 1)  # it was let go


def test_a_file_that_is_changed_while_it_is_in_use(path):
    with opened(path) as checkpoint:
        checkpoint.write(ok(0), "a")
        content = path.read_bytes()
        path.write_bytes(content.replace(b'"key":"a"', b'"key":"b"'))
        with pytest.raises(CheckpointError, match="changed by somebody else"):
            checkpoint.outcome("a", 0, None)


# --- one writer


def test_a_second_writer_in_the_process_is_refused(path):
    with opened(path) as checkpoint:
        checkpoint.open()  # it is
        for _ in range(2):
            with pytest.raises(CheckpointError, match=r"run\.jsonl: another run has it open"):
                CheckpointFile(path, "job").open()
        checkpoint.write(ok(0), "a")
    with opened(path) as checkpoint:
        assert len(checkpoint) == 1


HOLDER = """
import os, sys, time
from pynector._checkpoint.file import CheckpointFile
from pynector._messages.outcome import Outcome
checkpoint = CheckpointFile(sys.argv[1], "job")
checkpoint.open()
checkpoint.write(Outcome(index=0, value="theirs", attempts=1), "a")
"""


def run_holder(path, code):
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER + code, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@posix
def test_a_second_process_is_refused_until_the_first_is_killed(path):
    with run_holder(path, "print('open', flush=True); time.sleep(60)") as process:
        try:
            assert process.stdout.readline() == "open\n"
            with pytest.raises(CheckpointError, match=r"run\.jsonl: another run has it open"):
                CheckpointFile(path, "job").open()
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait(10)
    with opened(path) as checkpoint:
        assert checkpoint.outcome("a", 0, None).value == "theirs"


@posix
def test_killed_while_it_writes_again_and_again(path):
    code = """
        count = len(checkpoint)
        print("open", flush=True)
        while True:
            count += 1
            checkpoint.write(Outcome(index=count, value="x" * 5000, attempts=1), f"k{count}")
    """.replace("        ", "")
    last = 0
    for _ in range(5):
        with run_holder(path, code) as process:
            assert process.stdout.readline() == "open\n"
            time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
            process.wait(10)
        with opened(path) as checkpoint:
            assert len(checkpoint) > last
            last = len(checkpoint)
        records = [json.loads(line)["key"] for line in path.read_bytes().splitlines()[1:]]
        assert len({*records}) == last


FORKED = """
from pynector import errors
child = os.fork()
if not child:
    results = []
    for use in (
        lambda: checkpoint.write(Outcome(index=1, value="child", attempts=1), "b"),
        lambda: checkpoint.finished("a"),
        checkpoint.sync,
        checkpoint.open,
    ):
        try:
            use()
        except errors.CheckpointError as error:
            results.append("parent process" in str(error) or "another run" in str(error))
    checkpoint.close()
    os._exit(0 if results == [True] * 4 else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
checkpoint.write(Outcome(index=1, value="parent", attempts=1), "b")
print(checkpoint.outcome("b", 1, None).value, len(checkpoint), flush=True)
if not os.fork():
    print("free", flush=True)
    time.sleep(2)  # it outlives its parent, and must not keep the lock
os._exit(0)
"""


@posix
def test_a_forked_child_does_not_touch_the_file(path):
    with run_holder(path, FORKED) as process:
        assert process.stdout.readline() == "0\n"
        assert process.stdout.readline() == "parent 2\n"
        assert process.stdout.readline() == "free\n"
        process.wait(10)
        with opened(path) as checkpoint:
            assert checkpoint.outcome("b", 1, None).value == "parent"


@posix
def test_a_file_that_is_replaced_while_it_is_opened(path, monkeypatch):
    fill(path, 1)
    lock = lock_module.try_lock

    def lock_late(fd):
        monkeypatch.setattr(lock_module, "try_lock", lock)
        path.rename(path.with_suffix(".old"))
        return lock(fd)

    monkeypatch.setattr(lock_module, "try_lock", lock_late)
    with opened(path) as checkpoint:
        assert len(checkpoint) == 0
        with pytest.raises(CheckpointError):
            CheckpointFile(path, "job").open()
    assert path.exists()


def test_a_checkpoint_that_is_forgotten_lets_go(path):
    checkpoint = CheckpointFile(path, "job")
    checkpoint.open()
    del checkpoint
    gc.collect()
    fill(path, 1)


# --- files that cannot be used


def test_a_checkpoint_that_is_not_open(path):
    checkpoint = CheckpointFile(path, "job")
    assert not path.exists()
    for _ in range(2):
        for use in (
            lambda: checkpoint.write(ok(0), "a"),
            lambda: checkpoint.outcome("a", 0, None),
            lambda: checkpoint.idempotency_key("a"),
            checkpoint.sync,
        ):
            with pytest.raises(ClosedError, match=r"run\.jsonl: it is not open"):
                use()
        checkpoint.open()
        checkpoint.close()
        checkpoint.close()


@pytest.mark.parametrize("wrong", [None, 7, "", b"x", "a\0b", True])
def test_what_is_no_path(wrong):
    with pytest.raises(ConfigurationError, match=r"argument `checkpoint`.*give the path of a file"):
        CheckpointFile(wrong, "job")


def test_a_path_is_that_of_the_folder_where_it_was_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpoint = CheckpointFile("run.jsonl", "job")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    checkpoint.open()
    checkpoint.close()
    assert (tmp_path / "run.jsonl").exists()


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be opened: there is no such folder") as caught:
        CheckpointFile(tmp_path / "nowhere" / "run.jsonl", "job").open()
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    with pytest.raises(CheckpointError, match="cannot be opened: Is a directory"):
        CheckpointFile(tmp_path, "job").open()


@posix
def test_what_is_no_regular_file(path):
    os.mkfifo(path)
    with pytest.raises(CheckpointError, match="it is no regular file"):
        CheckpointFile(path, "job").open()


@posix
def test_a_folder_that_may_not_be_written():
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o555)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)  # root may write everywhere
        try:
            with pytest.raises(CheckpointError, match="cannot be opened: Permission denied"):
                CheckpointFile(Path(folder, "run.jsonl"), "job").open()
        finally:
            if root:
                os.seteuid(0)
        os.chmod(folder, 0o755)


@contextmanager
def files_end_at(size):
    """The system takes no byte beyond, as if the disk were full: part of a write is done."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@posix
def test_a_full_disk(path):
    with opened(path) as checkpoint:
        checkpoint.write(ok(0), "a")
        before = path.read_bytes()
        with files_end_at(len(before) + 50):
            for _ in range(2):
                with pytest.raises(
                    CheckpointError, match=r"run\.jsonl: it cannot be written: File too large"
                ) as caught:
                    checkpoint.write(ok(1, "x" * 1000), "b")
                assert isinstance(caught.value.__cause__, OSError)
                assert path.read_bytes() == before
        assert checkpoint.finished("b") is None
        checkpoint.write(ok(2), "c")  # there is room again
    with opened(path) as checkpoint:
        assert [checkpoint.finished(key) is not None for key in "abc"] == [True, False, True]


@posix
def test_a_disk_that_is_full_from_the_start(path):
    with files_end_at(10), pytest.raises(CheckpointError, match="cannot be opened: File too large"):
        CheckpointFile(path, "job").open()
    assert path.read_bytes() == b""
    fill(path, 1)


@posix
def test_a_torn_record_that_cannot_be_taken_back_at_once(path, monkeypatch):
    def refuse(fd, length):
        raise OSError(5, "Input/output error")

    with opened(path) as checkpoint:
        with files_end_at(path.stat().st_size + 50), monkeypatch.context() as patch:
            patch.setattr(os, "ftruncate", refuse)
            for _ in range(2):
                with pytest.raises(CheckpointError, match="cannot be written"):
                    checkpoint.write(ok(1, "x" * 1000), "b")
        checkpoint.write(ok(2), "c")
    with opened(path) as checkpoint:
        assert len(checkpoint) == 1
        assert checkpoint.outcome("c", 0, None).ok


@posix
def test_a_torn_record_is_taken_back_when_the_file_is_closed(path, monkeypatch):
    def refuse(fd, length):
        raise OSError(5, "Input/output error")

    with opened(path) as checkpoint:
        before = path.read_bytes()
        with files_end_at(len(before) + 50), monkeypatch.context() as patch:
            patch.setattr(os, "ftruncate", refuse)
            with pytest.raises(CheckpointError, match="cannot be written"):
                checkpoint.write(ok(1, "x" * 1000), "b")
        assert len(path.read_bytes()) == len(before) + 50
    assert path.read_bytes() == before


def test_a_file_that_cannot_be_read(path, monkeypatch):
    def fail(fd, size):
        raise OSError(5, "Input/output error")

    with opened(path) as checkpoint:
        checkpoint.write(ok(0), "a")
        with monkeypatch.context() as patch:
            patch.setattr(os, "read", fail)
            with pytest.raises(CheckpointError, match="cannot be read: Input/output error"):
                checkpoint.outcome("a", 0, None)
        assert checkpoint.outcome("a", 0, None).ok


def test_an_interrupted_opening_lets_go(path, monkeypatch):
    def interrupt(line):
        raise KeyboardInterrupt

    fill(path, 1)
    checkpoint = CheckpointFile(path, "job")
    with monkeypatch.context() as patch:
        patch.setattr(file_module, "read_record", interrupt)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.open()
    fill(path, 1)


def test_an_interrupted_write_leaves_nothing_behind(path, monkeypatch):
    write = os.write

    def interrupt(fd, data):
        write(fd, data[:10])
        raise KeyboardInterrupt

    with opened(path) as checkpoint:
        before = path.read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", interrupt)
            with pytest.raises(KeyboardInterrupt):
                checkpoint.write(ok(0), "a")
        assert path.read_bytes() == before
        assert checkpoint.finished("a") is None


# --- the disk, memory, threads


def test_the_disk_is_asked_once_in_a_while(path, monkeypatch):
    calls = []
    monkeypatch.setattr(os, "fsync", calls.append)
    with opened(path, sync_interval=0.2) as checkpoint:
        calls.clear()
        for n in range(20):
            checkpoint.write(ok(n), f"k{n}")
        assert len(calls) <= 1
        time.sleep(0.21)
        checkpoint.write(ok(0), "later")
        assert len(calls) >= 1
        calls.clear()
        checkpoint.sync()
        assert calls == []  # all of it is there
        checkpoint.write(ok(1), "last")
    assert len(calls) == 1


def test_a_disk_that_fails(path, monkeypatch):
    def fail(fd):
        raise OSError(5, "Input/output error")

    checkpoint = CheckpointFile(path, "job")
    checkpoint.open()
    checkpoint.write(ok(0), "a")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(CheckpointError, match="cannot be written: Input/output error"):
            checkpoint.sync()
        with pytest.raises(CheckpointError, match="cannot be written: Input/output error"):
            checkpoint.close()
    with opened(path) as other:  # it is closed all the same
        assert len(other) == 1


def test_many_items_take_little_memory(path):
    count = 20_000  # it takes long to trace memory
    record = json.dumps(RECORD | {"value": {"plain": "x" * 300}, "key": "KEY"}).encode() + b"\n"
    with opened(path):
        pass
    with path.open("ab") as file:
        for n in range(count):
            file.write(record.replace(b"KEY", b"key-%d" % n))
    checkpoint = CheckpointFile(path, "job")
    tracemalloc.start()
    try:
        checkpoint.open()
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    with closing(checkpoint):
        assert len(checkpoint) == count
        assert checkpoint.outcome("key-17777", 0, None).value == "x" * 300
    assert kept < 75 * count + 100_000  # and what the objects themselves take; the file has 400 bytes for each
    assert peak < 130 * count + 200_000


def test_threads_write_and_read_at_once(path):
    failures = []

    def work(number, checkpoint):
        try:
            for n in range(200):
                key = f"{number}-{n}"
                checkpoint.write(ok(n, key * 50), key)
                assert checkpoint.outcome(key, n, None).value == key * 50
        except BaseException as error:
            failures.append(error)

    with opened(path, sync_interval=0.0) as checkpoint:
        threads = [threading.Thread(target=work, args=(number, checkpoint)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures
    with opened(path) as checkpoint:
        assert len(checkpoint) == 800
        assert all(
            checkpoint.outcome(f"{a}-{b}", 0, None).value == f"{a}-{b}" * 50 for a in range(4) for b in range(200)
        )


def test_an_idempotency_key_outlives_the_process_and_not_the_job(path, tmp_path):
    with opened(path) as checkpoint:
        made = checkpoint.idempotency_key("a")
        assert checkpoint.idempotency_key("b") != made
        assert len(made) == 32
    with opened(path) as checkpoint:
        assert checkpoint.idempotency_key("a") == made
    with opened(tmp_path / "other.jsonl") as checkpoint:
        assert checkpoint.idempotency_key("a") != made

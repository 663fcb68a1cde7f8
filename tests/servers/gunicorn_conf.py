"""Settings of gunicorn for httpbin.

They are a file because older versions ignore an unknown setting here, and refuse it as an option.
"""

import os
import signal
import sys
import threading

wsgi_app = "httpbin:app"
worker_class = "gthread"
threads = 32
keepalive = 30
graceful_timeout = 1
control_socket_disable = True


def when_ready(server: object) -> None:
    """End when the tests end, even if they were killed: their end of the pipe closes then."""

    def watch() -> None:
        os.read(sys.stdin.fileno(), 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()

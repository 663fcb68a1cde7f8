"""A WSGI app, a Flask one for instance, under a threaded server."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from wsgiref.types import WSGIApplication

from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler, make_server


class _Handler(WSGIRequestHandler):
    timeout = 5  # a connection that never sends its request does not hold up the end of the server

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


@contextmanager
def serve_wsgi(app: WSGIApplication) -> Iterator[str]:
    """Serve the app on a free port of the loopback interface, a thread for each request; gives its URL."""
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Handler)
    assert isinstance(server, ThreadedWSGIServer)
    server.daemon_threads = False  # so that closing the server waits for the threads of the requests
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="wsgi-server", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

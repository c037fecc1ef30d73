"""A web server on this machine for tests of remote inputs; it serves a folder, with listings."""

from __future__ import annotations

import contextlib
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer


class Handler(SimpleHTTPRequestHandler):
    """``server.gets`` are the paths that were read.

    ``server.dropped`` many are cut short; ``server.pauses`` are seconds before each byte.
    """

    def do_GET(self):
        self.server.gets.append(self.path)
        super().do_GET()

    def copyfile(self, source, outputfile):
        if self.server.dropped > 0:
            self.server.dropped -= 1
            outputfile.write(source.read(10))
            self.close_connection = True
            return
        for pause in self.server.pauses:
            outputfile.write(source.read(1))
            time.sleep(pause)
        with contextlib.suppress(ConnectionError):
            super().copyfile(source, outputfile)

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def serving(folder):
    """The server; ``server.url`` ends with a slash."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    server.gets, server.dropped, server.pauses = [], 0, []
    server.url = f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

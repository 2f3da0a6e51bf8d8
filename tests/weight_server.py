"""A server of files on this machine, for tests of downloads."""

import contextlib
import http.server
import threading


class Handler(http.server.BaseHTTPRequestHandler):
    """/NAME gives the server's `content`; what the server's `breaks` says is cut off. Each request is noted."""

    def do_GET(self):
        server = self.server
        start = 0
        wanted = self.headers.get("Range")
        server.requests.append((self.path, wanted))
        if self.path == "/absent":
            return self.send_error(404)
        if wanted and server.resumes and self.headers.get("If-Range") == server.tag:
            start = int(wanted[len("bytes=") :].rstrip("-"))
            if start >= len(server.content):
                return self.send_error(416)
        body = server.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start:d}-{len(server.content) - 1:d}/{len(server.content):d}")
        if server.tag:
            self.send_header("ETag", server.tag)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if server.breaks:
            body = body[: server.breaks.pop(0)]
        self.wfile.write(body)

    def log_message(self, *_arguments):
        pass


@contextlib.contextmanager
def file_server(content):
    """A running server; `content`, `breaks`, `resumes` and `tag` can be changed, `requests` read, `url` is its root."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.requests, server.breaks, server.resumes, server.tag, server.content = [], [], True, '"one"', content
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        server.url = f"http://127.0.0.1:{server.server_address[1]:d}"
        yield server
        server.shutdown()

"""A served model in this process, as a client sees it over HTTP."""

import contextlib
import http.client
import json
import threading
import time
import uuid
from typing import NamedTuple

from ppliteseg_paddle.serve.app import create_app
from ppliteseg_paddle.serve.server import listening, server_for
from ppliteseg_paddle.serve.service import Service

LOOPBACK = ("127.0.0.1", "localhost")


class Answer(NamedTuple):
    """`headers` are an `http.client.HTTPMessage`."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        """The one line of a refusal, which has nothing else."""
        values = self.json
        assert list(values) == ["error"] and "\n" not in values["error"], values
        return values["error"]


class Client(NamedTuple):
    port: int
    service: Service

    def request(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())

    def get(self, path, **headers):
        return self.request("GET", path, headers=headers)

    def post(self, content, query="", kind="image/png", **headers):
        """An image as the body of a request to /predict."""
        return self.request("POST", f"/predict{query}", content, {"Content-Type": kind, **headers})

    def post_form(self, files, query=""):
        """Files by field as a form: {field: (name, content)}."""
        body, kind = form(files)
        return self.post(body, query, kind)

    def metric(self, name):
        """The value of a line of /metrics."""
        lines = self.get("/metrics").body.decode().splitlines()
        return next((float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name + " ")), None)


def form(files):
    """Body and content type of a form with files."""
    mark, parts = uuid.uuid4().hex, []
    for field, (name, content) in files.items():
        head = f'Content-Disposition: form-data; name="{field}"; filename="{name}"\r\nContent-Type: image/png'
        parts.append(f"--{mark}\r\n{head}\r\n\r\n".encode() + content + b"\r\n")
    return b"".join(parts) + f"--{mark}--\r\n".encode(), f"multipart/form-data; boundary={mark}"


@contextlib.contextmanager
def serving(predictor, max_upload=4, hosts=LOOPBACK, **options):
    """A running server; options are those of `Service`."""
    with listening("127.0.0.1", 0) as listener:
        service = Service(predictor, **options)
        server = server_for(create_app(service, max_upload, hosts))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        wait_until(lambda: server.started or not thread.is_alive())
        try:
            yield Client(listener.getsockname()[1], service)
        finally:
            server.should_exit = True
            thread.join(60)
            assert not thread.is_alive()


def wait_until(happened, seconds=60):
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.005)

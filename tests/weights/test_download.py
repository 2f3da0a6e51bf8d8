"""Against a server of our own on this machine; no test reaches the network."""

import contextlib
import hashlib
import http.server
import os
import sys
import threading

import pytest
from weight_server import file_server

from ppliteseg_paddle.errors import DownloadError
from ppliteseg_paddle.weights import download

CONTENT = bytes(range(256)) * 2000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with file_server(CONTENT) as server:
        yield server


def read(path):
    with open(path, "rb") as file:
        return file.read()


def test_a_file_is_downloaded_once_and_then_taken_from_the_cache(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PPLITESEG_HOME", str(tmp_path))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    path = download.fetch(server.url + "/model.pdparams#sha256=" + DIGEST.upper())
    assert path.startswith(str(tmp_path / "downloads")) and path.endswith("-model.pdparams") and read(path) == CONTENT
    assert "model.pdparams: 100%" in capsys.readouterr().err
    assert download.fetch(server.url + "/model.pdparams") == path
    assert len(server.requests) == 1
    assert sorted(name.rpartition("-")[2] for name in os.listdir(tmp_path / "downloads")) == [
        "model.pdparams",
        "model.pdparams.lock",
    ]


def test_two_addresses_that_end_alike_do_not_share_a_file(server, tmp_path):
    paths = {download.fetch(f"{server.url}/{name}/model.pdparams", str(tmp_path)) for name in ("a", "b")}
    assert len(paths) == 2


def test_a_broken_transfer_resumes_where_it_stopped(server, tmp_path):
    server.breaks = [1000, 2000]
    assert read(download.fetch(server.url + "/x", str(tmp_path))) == CONTENT
    assert server.requests == [("/x", None), ("/x", "bytes=1000-"), ("/x", "bytes=3000-")]


def test_a_later_command_resumes_where_an_earlier_one_stopped(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    server.breaks = [5000]
    with pytest.raises(DownloadError, match="came incomplete 1 times: 5000 bytes so far. Run the same command again"):
        download.fetch(server.url + "/x", str(tmp_path))
    assert read(download.fetch(server.url + "/x", str(tmp_path))) == CONTENT
    assert server.requests[-1] == ("/x", "bytes=5000-")


def test_a_file_that_changed_meanwhile_is_fetched_anew(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    server.breaks = [5000]
    with pytest.raises(DownloadError):
        download.fetch(server.url + "/x", str(tmp_path))
    server.tag, server.content = '"two"', CONTENT[::-1]
    assert read(download.fetch(server.url + "/x", str(tmp_path))) == CONTENT[::-1]


@pytest.mark.parametrize("tag, resumes", [("", True), ('"one"', False), ('W/"weak"', True)])
def test_a_server_that_cannot_resume_sends_the_whole_file_again(server, tmp_path, tag, resumes):
    server.tag, server.resumes, server.breaks = tag, resumes, [1000]
    assert read(download.fetch(server.url + "/x", str(tmp_path))) == CONTENT


def test_more_bytes_than_the_server_has_are_thrown_away(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    server.breaks = [5000]
    with pytest.raises(DownloadError):
        download.fetch(server.url + "/x", str(tmp_path))
    monkeypatch.undo()
    server.content = CONTENT[:3000]
    assert read(download.fetch(server.url + "/x", str(tmp_path))) == CONTENT[:3000]


def test_another_hash_is_refused_and_the_file_deleted(server, tmp_path):
    with pytest.raises(DownloadError, match=f"has the SHA-256 {DIGEST}, but 0000"):
        download.fetch(server.url + "/x#sha256=" + "0" * 64, str(tmp_path))
    assert [name for name in os.listdir(tmp_path) if not name.endswith(".lock")] == []


@pytest.mark.parametrize(
    "url, text",
    [
        ("file:///etc/hosts", "only http and https addresses"),
        ("ftp://127.0.0.1/x", "only http and https addresses"),
        ("http://127.0.0.1/x#sha=1", "after '#' write sha256= and 64 hexadecimal digits"),
    ],
)
def test_an_address_that_cannot_serve_is_refused(url, text, tmp_path):
    with pytest.raises(DownloadError, match=text):
        download.fetch(url, str(tmp_path))


def test_an_absent_file_and_an_absent_server_are_told_apart(server, tmp_path):
    with pytest.raises(DownloadError, match="the server answers 404 Not Found. Check the connection"):
        download.fetch(server.url + "/absent", str(tmp_path))
    server.shutdown()
    server.server_close()
    with pytest.raises(DownloadError, match="/x cannot be downloaded: .*refused.* give its path instead"):
        download.fetch(server.url + "/x", str(tmp_path))


def test_a_cache_that_cannot_be_written_is_named(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DownloadError, match="cannot be kept in .*file.*Set PPLITESEG_HOME"):
        download.fetch(server.url + "/x", str(tmp_path / "file"))


@pytest.mark.parametrize(
    "text, expected",
    [("https://a/b", True), ("HTTP://a", True), ("a/b.pdparams", False), ("C:\\a", False), (None, False)],
)
def test_addresses_are_told_from_paths(text, expected):
    assert download.is_url(text) is expected


def test_weights_load_from_an_address_of_an_archive(server, tmp_path, monkeypatch):
    import io
    import tarfile

    import numpy as np
    import paddle

    from ppliteseg_paddle.models.stdc import STDCNet813

    model = STDCNet813()
    saved = str(tmp_path / "model.pdparams")
    paddle.save(model.state_dict(), saved)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.add(saved, "PP_STDCNet1/model.pdparams")
    server.content = buffer.getvalue()
    monkeypatch.setenv("PPLITESEG_HOME", str(tmp_path))
    other = STDCNet813(pretrained=server.url + "/PP_STDCNet1.tar.gz")
    for name, tensor in other.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), model.state_dict()[name].numpy())


class Misbehaving(http.server.BaseHTTPRequestHandler):
    """/to?ADDRESS redirects there; anything else never ends, unless it is told to declare a length."""

    def do_GET(self):
        path, _, query = self.path.partition("?")
        if path == "/to":
            self.send_response(302)
            self.send_header("Location", query)
            return self.end_headers()
        self.send_response(200)
        if path == "/declared":
            self.send_header("Content-Length", str(1 << 40))
        self.end_headers()
        with contextlib.suppress(OSError):
            for _ in range(1000):
                self.wfile.write(bytes(10000))

    def log_message(self, *_arguments):
        pass


@pytest.fixture
def misbehaving(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Misbehaving) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]:d}"
        server.shutdown()


@pytest.mark.parametrize("name, verb", [("endless", "sends"), ("declared", "has")])
def test_a_body_beyond_the_allowed_bytes_is_refused_and_not_kept(misbehaving, name, verb, tmp_path, monkeypatch):
    monkeypatch.setenv("PPLITESEG_MAX_DOWNLOAD", "1000000")
    with pytest.raises(DownloadError, match=f"{verb} more than 1000000 bytes.*set PPLITESEG_MAX_DOWNLOAD to a larger"):
        download.fetch(f"{misbehaving}/{name}", str(tmp_path))
    assert [file for file in os.listdir(tmp_path) if not file.endswith(".lock")] == []
    monkeypatch.setenv("PPLITESEG_MAX_DOWNLOAD", "much")
    with pytest.raises(DownloadError, match="PPLITESEG_MAX_DOWNLOAD is 'much'; write a number of bytes"):
        download.fetch(f"{misbehaving}/{name}", str(tmp_path))


@pytest.mark.parametrize("target", ["ftp://me:secret@127.0.0.1:1/x", "file:///etc/hosts", "data:,x"])
def test_a_redirect_to_another_scheme_is_refused(misbehaving, target, tmp_path):
    with pytest.raises(DownloadError, match="redirects to .*: only http and https") as caught:
        download.fetch(f"{misbehaving}/to?{target}", str(tmp_path))
    assert "secret" not in str(caught.value).partition("redirects")[2]


def test_a_redirect_within_http_is_followed(server, misbehaving, tmp_path):
    assert read(download.fetch(f"{misbehaving}/to?{server.url}/x", str(tmp_path))) == CONTENT


@pytest.mark.parametrize("end", ["", "/x", "/x#sha256=1", "/x?a=b"])
@pytest.mark.parametrize("scheme", ["http", "ftp"])
def test_a_password_in_an_address_is_not_printed(scheme, end, tmp_path, capsys):
    with pytest.raises(DownloadError, match=r"\*\*\*@127\.0\.0\.1") as caught:
        download.fetch(f"{scheme}://me:p@ss-word@127.0.0.1:1{end}", str(tmp_path))
    printed = str(caught.value) + capsys.readouterr().err
    assert "ss-word" not in printed and "me:" not in printed

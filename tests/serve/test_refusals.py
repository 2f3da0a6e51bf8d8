"""Requests that are refused: the status, and one line that says why."""

import http.client
import socket
import struct
import threading
import zlib

import cv2
import numpy as np
import pytest
from exported import photograph, small_folder
from served import form, serving

from ppliteseg_paddle import Predictor
from ppliteseg_paddle.reading import limits


@pytest.fixture(scope="module")
def client():
    with serving(Predictor(small_folder()), max_upload=1) as running:
        yield running


PNG = cv2.imencode(".png", photograph(64, 96))[1].tobytes()
JPEG = cv2.imencode(".jpg", photograph(64, 96))[1].tobytes()


@pytest.mark.parametrize(
    "content, kind, status, said",
    [
        (b"no image at all", "image/png", 400, "image upload cannot be decoded"),
        (PNG[:40], "image/png", 400, "image upload cannot be decoded"),
        (JPEG[: len(JPEG) // 2], "image/jpeg", 400, "ends too early: the remaining pixels are missing."),
        (b"", "image/png", 400, "no body: send an image file, as in curl --data-binary @photo.jpg"),
        (PNG, "application/json", 415, "the content type 'application/json' is no image: send"),
        (PNG, "text/plain; charset=utf-8", 415, "'text/plain' is no image"),
        (PNG + bytes(1 << 20), "image/png", 413, "larger than 1 MB: make the image smaller, or start the server with"),
        (PNG, "multipart/form-data", 400, "boundary"),
    ],
)
def test_what_is_no_image_is_refused_with_its_reason(client, content, kind, status, said):
    answer = client.post(content, kind=kind)
    assert answer.status == status and said in answer.error
    assert "list" not in answer.error and client.service.folder not in answer.error


def test_a_form_without_a_file_or_with_two_is_refused(client):
    answer = client.post(
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--x--\r\n', kind="multipart/form-data; boundary=x"
    )
    assert answer.status == 400 and "the form has no file" in answer.error
    answer = client.post_form({"a": ("a.png", PNG), "b": ("b.png", PNG)})
    assert answer.status == 400 and "Maximum number of files is 1" in answer.error
    answer = client.post_form({"a": ("a.png", PNG + bytes(2 << 20))})
    assert answer.status == 413


def test_an_upload_of_unknown_length_is_cut_at_the_limit(client):
    def endless():
        for _ in range(40):
            yield bytes(1 << 16)

    answer = client.request("POST", "/predict", endless(), {"Content-Type": "image/png"})  # chunks, without a length
    assert answer.status == 413


@pytest.mark.parametrize(
    "query, said",
    [
        ("?format=mask", "unknown format 'mask'. Choose from: json, npy, overlay, png, rle."),
        ("?fromat=png", "unknown parameter 'fromat'. Did you mean 'format'?"),
        ("?format=overlay&opacity=2", "opacity is '2': give a number from 0 to 1."),
        ("?format=overlay&opacity=nan", "opacity is 'nan'"),
        ("?format=overlay&legend=maybe", "legend is 'maybe': give 1 or 0."),
    ],
)
def test_unknown_parameters_are_refused(client, query, said):
    answer = client.post(PNG, query)
    assert answer.status == 400 and said in answer.error


def test_other_addresses_and_methods_are_refused(client):
    answer = client.get("/predictions")
    assert answer.status == 404 and "POST an image to /predict" in answer.error
    answer = client.get("/predict")
    assert (answer.status, answer.headers["Allow"]) == (405, "POST") and answer.error.endswith("use POST.")


def test_an_image_that_claims_more_pixels_than_memory_allows_is_refused_unread(client, monkeypatch):
    monkeypatch.setattr(limits, "free_memory", lambda: 2**30)
    answer = client.post(_bomb(30000, 30000))
    assert answer.status == 413 and "claims 30000x30000 pixels" in answer.error


def _bomb(width, height):
    """A PNG of a few bytes that claims to be large."""
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", zlib.compress(bytes(1000))))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def test_deep_images_are_refused_as_predict_refuses_them(client):
    deep = cv2.imencode(".png", photograph(64, 96).astype(np.uint16) * 256)[1].tobytes()
    answer = client.post(deep)
    assert answer.status == 422 and "values of type uint16" in answer.error


def test_pages_of_other_sites_cannot_use_it(client):
    answer = client.post(PNG, **{"Sec-Fetch-Site": "cross-site"})
    assert answer.status == 403
    answer = client.get("/health", Host=f"evil.example:{client.port}")
    assert answer.status == 421 and "not called 'evil.example" in answer.error
    for name in ("localhost", "LOCALHOST:80", "127.0.0.1"):
        assert client.get("/health", Host=name).status == 200
    with serving(client.service.predictor, hosts=None) as public:
        assert public.get("/health", Host="evil.example").status == 200


def test_every_answer_has_the_headers_that_keep_browsers_strict(client):
    for answer in (client.get("/"), client.get("/nothing"), client.post(PNG)):
        assert answer.headers["X-Content-Type-Options"] == "nosniff" and answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Access-Control-Allow-Origin"] is None and answer.headers["Server"] is None


def test_an_upload_that_falls_silent_is_given_up(client, monkeypatch):
    from ppliteseg_paddle.serve import uploads

    monkeypatch.setattr(uploads, "PATIENCE_SECONDS", 0.05)
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=60)
    connection.putrequest("POST", "/predict")
    connection.putheader("Content-Length", "1000")
    connection.endheaders(b"begun")
    response = connection.getresponse()
    assert response.status == 408 and b"nothing came for 0.05 s" in response.read()
    connection.close()


def test_a_client_that_goes_away_leaves_the_server_at_work(client):
    body, kind = form({"file": ("a.png", PNG)})
    with socket.create_connection(("127.0.0.1", client.port)) as half:
        half.sendall(f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n".encode())
        half.sendall(f"Content-Type: {kind}\r\n\r\n".encode() + body[:50])
    answers = [client.post(PNG).status for _ in range(3)]
    assert answers == [200] * 3 and threading.active_count() < 50

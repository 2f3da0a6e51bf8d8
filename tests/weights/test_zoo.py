"""Published weights by name, against a server of our own on this machine; no test reaches the network."""

import json
import os
import pathlib

import numpy as np
import pytest
import yaml
from commands import run_json, values_of, write_photo
from safetensors.numpy import save
from weight_server import file_server

from ppliteseg_paddle.cli.main import main
from ppliteseg_paddle.config.read import load, shipped_configs
from ppliteseg_paddle.errors import DownloadError, WeightsError
from ppliteseg_paddle.models.pp_liteseg import pp_liteseg_t
from ppliteseg_paddle.weights import zoo
from ppliteseg_paddle.weights.read import read_state_dict

CONTENT = save({"conv.weight": np.arange(6, dtype=np.float32)})
ORIGINAL = "https://weights.invalid/all/"


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A mirror of the address at which the table has `tiny`."""
    table = tmp_path / "zoo.yml"
    common = {"network": "STDC1", "measured_on": "nothing", "source": "a test"}
    tiny = {**common, "address": ORIGINAL + "tiny.safetensors"}
    by_hand = {**common, "page": "https://a.page", "file": "a.tar"}
    table.write_text(yaml.safe_dump({"tiny": tiny, "by-hand": by_hand}))
    monkeypatch.setattr(zoo, "TABLE", str(table))
    monkeypatch.setenv("PPLITESEG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "*")
    zoo.published.cache_clear()
    with file_server(CONTENT) as server:
        monkeypatch.setenv("PPLITESEG_MIRROR", f"{ORIGINAL}={server.url}/")
        yield server
    zoo.published.cache_clear()


def stored():
    return zoo.published()["tiny"].path


def test_a_name_is_downloaded_once_and_read(server):
    for _ in range(2):
        np.testing.assert_array_equal(read_state_dict("tiny")["conv.weight"], np.arange(6))
    assert [path for path, _ in server.requests] == ["/tiny.safetensors"]
    assert os.path.basename(stored()) == "tiny.safetensors"


def test_a_broken_transfer_is_resumed(server):
    server.breaks = [50]
    assert set(read_state_dict("tiny")) == {"conv.weight"}
    assert [wanted for _, wanted in server.requests] == [None, "bytes=50-"]


def test_what_stays_incomplete_is_refused_and_not_recorded(server):
    server.breaks = [20, 20, 20, 20, 20]
    server.resumes = False
    with pytest.raises(DownloadError, match="weights 'tiny': .*incomplete 4 times.*Saved as .*tiny.safetensors, it"):
        zoo.path_of(zoo.published()["tiny"])
    assert not os.path.exists(stored()) and not os.path.exists(os.path.join(zoo.folder(), zoo.CHECKSUMS))


def test_the_first_download_is_recorded_and_another_file_in_its_place_refused(server):
    read_state_dict("tiny")
    with open(os.path.join(zoo.folder(), zoo.CHECKSUMS), encoding="utf-8") as file:
        record = json.load(file)["tiny"]
    assert record["size"] == len(CONTENT) and record["address"] == ORIGINAL + "tiny.safetensors"
    os.remove(stored())
    server.content = save({"conv.weight": np.zeros(6, np.float32)})  # replaced by its publisher
    with pytest.raises(WeightsError, match=f"tiny.*{record['sha256']} was recorded on .*delete 'tiny' in .*checksums"):
        read_state_dict("tiny")


def test_a_file_that_was_put_in_place_by_hand_is_used(server):
    server.content = b""
    os.makedirs(zoo.folder())
    with open(stored(), "wb") as file:
        file.write(CONTENT)
    assert set(read_state_dict("tiny")) == {"conv.weight"} and not server.requests


def test_without_a_connection_the_error_names_the_address_and_the_place(server, monkeypatch):
    monkeypatch.setenv("PPLITESEG_MIRROR", f"{ORIGINAL}=http://127.0.0.1:9/")
    with pytest.raises(DownloadError, match="weights 'tiny': http.*cannot be downloaded.*Saved as .*tiny.safetensors"):
        read_state_dict("tiny")
    with pytest.raises(DownloadError, match="get a.tar by hand from https://a.page, and save it as .*by-hand.tar"):
        read_state_dict("by-hand")


def test_a_mirror_that_is_no_pair_of_addresses_is_refused(server, monkeypatch):
    monkeypatch.setenv("PPLITESEG_MIRROR", "mirror.local")
    with pytest.raises(DownloadError, match="PPLITESEG_MIRROR has 'mirror.local'; write pairs"):
        read_state_dict("tiny")


def test_a_file_of_that_name_comes_before_the_table(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").write_bytes(save({"other": np.zeros(1, np.float32)}))
    assert set(read_state_dict("tiny")) == {"other"}


def test_an_unknown_name_is_reported_with_the_nearest_published_one():
    with pytest.raises(WeightsError, match="'cityscapes-t-scale0.6'.*Did you mean 'cityscapes-t-scale0.5'"):
        read_state_dict("cityscapes-t-scale0.6")
    with pytest.raises(WeightsError, match="weight file missing.pdparams does not exist"):
        read_state_dict("missing.pdparams")


def test_every_row_of_the_table_has_what_its_users_need():
    configs = shipped_configs()
    for name, row in zoo.published().items():
        assert row.shipped or (row.address or "").startswith("https://") or (row.page and row.file), name
        if row.config is None:
            assert row.network in ("STDC1", "STDC2"), name
            continue
        values, _ = load(row.config)
        assert row.config in configs and values["model"]["num_classes"] == row.classes, name
        assert (values["model"]["backbone"]["type"] == "STDCNet813") == (row.network == "PP-LiteSeg-T"), name
        assert str(row.miou) in pathlib.Path(configs[row.config]).read_text("utf-8"), name


def here(capsys):
    return {row["name"]: row["here"] for row in run_json(capsys, "weights", "list")[1]["weights"]}


def test_the_command_lists_and_downloads(server, capsys):
    assert here(capsys) == {"tiny": False, "by-hand": False}
    assert run_json(capsys, "weights", "download", "tiny") == (0, {"action": "download", "files": {"tiny": stored()}})
    assert here(capsys) == {"tiny": True, "by-hand": False}


def test_weights_without_a_configuration_need_one(server, capsys):
    assert main(["val", "--model_path", "tiny"]) == 2
    assert "--config is missing: which model are the weights of --model_path tiny for" in capsys.readouterr().err


@pytest.mark.slow
def test_published_weights_bring_their_configuration(server, monkeypatch, tmp_path, capsys):
    """Segments a photograph by nothing but a name."""
    zoo.published.cache_clear()
    monkeypatch.setattr(zoo, "TABLE", os.path.join(os.path.dirname(zoo.__file__), "zoo.yml"))
    row = zoo.published()["camvid-t-960x720"]
    monkeypatch.setenv("PPLITESEG_MIRROR", f"{row.address}={server.url}/model.pdparams")
    server.content = save({n: t.numpy() for n, t in pp_liteseg_t(row.classes).state_dict().items()})
    photo = write_photo(tmp_path / "photo.png")
    flags = ["--model_path", row.name, "--image_path", photo, "--save_dir", tmp_path / "out", "--device", "cpu"]
    assert run_json(capsys, "predict", *flags)[0] == 0
    assert values_of(tmp_path / "out" / "mask" / "photo.png")[0].shape == (64, 96)

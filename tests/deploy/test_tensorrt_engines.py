"""Engines: when TensorRT builds one, where it is kept, and which ones are run."""

import os

import pytest
from fake_tensorrt import an_artifact

from ppliteseg_paddle.deploy.backends import open_backend
from ppliteseg_paddle.deploy.engines import engine_name, engines_folder
from ppliteseg_paddle.errors import ArtifactError, ConfigError


def test_an_engine_is_built_once_for_a_graph_gpu_version_and_precision(tmp_path, installed):
    def builds(artifact, version="10.13.0.35", gpu="NVIDIA A10", **options):
        module, _ = installed(version, (gpu,))
        open_backend("tensorrt", artifact, **options)
        return len([name for name, _ in module.calls if name == "build"])

    artifact = an_artifact(tmp_path / "export")
    assert [builds(artifact), builds(artifact)] == [1, 0]
    assert builds(artifact, precision="fp16") == 1
    assert builds(artifact, version="10.14.0") == 1
    assert builds(artifact, gpu="NVIDIA L4") == 1
    assert builds(artifact, dynamic_shape=[(1, 3, 8, 8), (1, 3, 8, 8), (1, 3, 64, 64)]) == 1
    assert builds(an_artifact(tmp_path / "export", content=b"another graph")) == 1
    names = [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert len([name for name in names if name.endswith(".engine")]) == 6
    assert any(name.startswith("tensorrt-10.13.0.35-NVIDIA-A10-8.6-fp16-") for name in names)
    assert not any(name.startswith(".") for name in names)


def test_a_damaged_engine_is_built_again(tmp_path, installed):
    artifact = an_artifact(tmp_path / "export")
    installed()
    first = open_backend("tensorrt", artifact)
    with open(first.engine_path, "wb") as file:
        file.write(b"\0" * 100)
    module, _ = installed()
    again = open_backend("tensorrt", artifact)
    assert again.built and again.engine_path == first.engine_path and ("build", None) in module.calls
    installed()
    assert not open_backend("tensorrt", artifact).built


def test_measured_kernels_are_remembered_and_foreign_ones_dropped(tmp_path, installed):
    artifact = an_artifact(tmp_path / "export")
    module, _ = installed()
    open_backend("tensorrt", artifact)
    assert ("timing_cache", b"") in module.calls
    module, _ = installed()
    open_backend("tensorrt", artifact, precision="fp16")
    assert [content for name, content in module.calls if name == "timing_cache"] == [b"timings"]
    [cache] = (tmp_path / "cache").rglob("*.cache")
    cache.write_bytes(b"another driver's")
    module, _ = installed()
    open_backend("tensorrt", artifact, dynamic_shape=[(1, 3, 8, 8)] * 3)
    assert [content for name, content in module.calls if name == "timing_cache"] == [b"another driver's", b""]


def test_exporting_again_replaces_the_folder_with_its_engines(tmp_path):
    from ppliteseg_paddle.deploy.folder import writing

    an_artifact(tmp_path / "export")
    (tmp_path / "export" / "engines").mkdir()  # as earlier versions left it
    with writing(str(tmp_path / "export")):
        pass
    assert not os.path.exists(tmp_path / "export" / "engines")


def test_engines_of_the_exported_folder_are_not_run(tmp_path, installed):
    """They may come from a stranger, and an engine is a program."""
    module, _ = installed()
    artifact = an_artifact(tmp_path / "export")
    built = open_backend("tensorrt", artifact)
    os.renames(os.path.dirname(built.engine_path), tmp_path / "export" / "engines")
    module, _ = installed()
    assert open_backend("tensorrt", artifact).built and ("build", None) in module.calls


def test_engines_go_to_the_users_cache_or_where_one_says(tmp_path, monkeypatch):
    monkeypatch.setenv("PPLITESEG_HOME", str(tmp_path / "cache"))
    folders = set()
    for content in ("a: 1", "a: 2"):
        (tmp_path / "export").mkdir(exist_ok=True)
        (tmp_path / "export" / "deploy.yaml").write_text(content)
        folders.add(engines_folder(str(tmp_path / "export")))
    assert {os.path.dirname(folder) for folder in folders} == {str(tmp_path / "cache" / "engines")}
    assert len(folders) == 2
    assert engines_folder(str(tmp_path / "export"), str(tmp_path / "mine")) == str(tmp_path / "mine")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="engines cannot be kept: .*file.*give a folder as cache_dir"):
        engines_folder(str(tmp_path / "export"), str(tmp_path / "file" / "mine"))


def test_names_of_engines_hold_no_sign_that_a_file_system_refuses():
    name = engine_name("tensorrt", "10.0", "NVIDIA GeForce RTX 4090 / Laptop (TM)", "fp16", {})
    assert name.startswith("tensorrt-10.0-NVIDIA-GeForce-RTX-4090-Laptop-TM-fp16-") and not set(name) & set(' /\\:()"')


def test_a_graph_that_tensorrt_cannot_read_is_reported_on_one_line(tmp_path, installed):
    installed()
    with pytest.raises(ArtifactError, match="^TensorRT 10.13.0.35 cannot read the graph: In node 0: it is broken.$"):
        open_backend("tensorrt", an_artifact(tmp_path / "export", content=b"broken"))
    assert not any(path.is_file() for path in (tmp_path / "cache").rglob("*"))

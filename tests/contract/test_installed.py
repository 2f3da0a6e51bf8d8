"""What an installed package has, as opposed to a source checkout."""

import json
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


def test_an_installed_package_has_the_configurations_and_the_published_weights(tmp_path):
    source = tmp_path / "source"  # a build leaves files beside setup.py
    source.mkdir()
    for name in ("setup.py", "README.md", "configs", "ppliteseg_paddle"):
        (source / name).symlink_to(ROOT / name)
    built = tmp_path / "built"
    command = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(built)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    code = (
        "import json; from ppliteseg_paddle.config.read import load, shipped_configs; "
        "from ppliteseg_paddle.weights.zoo import published; "
        "iters = {name: load(path)[0]['iters'] for name, path in shipped_configs().items()}; "
        "from ppliteseg_paddle.deploy.foreign import open_folder; "
        "precision = open_folder('camvid-t').precision; "  # files and hashes of its export
        "print(json.dumps([iters, list(published()), published()['camvid-t'].path, precision]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(built)}
    # Outside a checkout there is no '.' to install.
    command = [sys.executable, "-c", "import sys; sys.modules['shtab'] = None; from ppliteseg_paddle.cli import main; "]
    command[2] += "sys.exit(main.main(['completion', 'bash']))"
    refused = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert refused.stderr.endswith("Install it with: pip install 'ppliteseg_paddle[completion]'\n"), refused.stderr
    printed = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    ).stdout
    iters, names, weights, precision = json.loads(printed)
    assert (
        pathlib.Path(weights).is_relative_to(built)
        and pathlib.Path(weights).stat().st_size > 16_000_000
        and precision == "int8"
    )
    assert sum(path.stat().st_size for path in built.rglob("*") if path.is_file()) < 40_000_000  # as a wheel smaller
    assert iters["ppliteseg_t_cityscapes_1024x512_scale0.5_160k"] == 160_000
    shipped = {path.stem for path in (ROOT / "configs").glob("[!_]*/*.yml")}
    assert set(iters) == shipped and "ssld-stdc1" in names


def test_doctor_and_env_sh_name_the_release_of_paddleseg_that_setup_py_installs():
    from ppliteseg_paddle.diagnosis.findings import PADDLESEG_VERSIONS
    from ppliteseg_paddle.errors import install_training

    pinned = re.search(r'^PADDLESEG = "(.*?)"', (ROOT / "setup.py").read_text("utf-8"), re.MULTILINE).group(1)
    read = re.search(r"\$\((sed .*PADDLESEG.*)\)\"$", (ROOT / "scripts" / "env.sh").read_text("utf-8"), re.MULTILINE)
    command = ["bash", "-c", read.group(1)]
    read_by_script = subprocess.run(command, env={**os.environ, "ROOT": str(ROOT)}, capture_output=True, text=True)
    assert read_by_script.stdout.strip() == pinned == PADDLESEG_VERSIONS[0]
    assert install_training("cpu", (3, 13)).endswith(f"paddleseg=={pinned}")

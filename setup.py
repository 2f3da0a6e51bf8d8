"""Installation. Every pin says why; they were installed and tried together on Python 3.9 to 3.13, those without Paddle
on 3.14, too."""

import pathlib
import re
import shutil

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = pathlib.Path(__file__).parent
VERSION = re.search(r'__version__ = "([^"]+)"', (HERE / "ppliteseg_paddle" / "__init__.py").read_text("utf-8")).group(1)

# Python 3.13 has no NumPy 1, so there is no OpenCV that PaddleSeg admits. There PaddleSeg is installed without its
# requirements, `pip install --no-deps paddleseg==2.8.0`, by scripts/env.sh or by hand; its code runs with newer ones.
OLD, NEW = 'python_version < "3.13"', 'python_version >= "3.13"'
PADDLESEG = "2.8.0"  # the loop, registry and configuration that we plug into, as released

# Enough to run an exported model with the runtime of your choice.
BASE = [
    "numpy>=1.22,<3",
    # Older ones have no wheels for Python 3.9+; 4.10 and 4.11 write out of bounds at some JPEG 2000 files
    # (CVE-2025-53644). The newest is best: up to 4.8.0 wheels hold a libwebp with CVE-2023-4863. See SECURITY.md.
    "opencv-python>=4.5.4,!=4.10.*,!=4.11.*,<5",
    f"opencv-python>=4.12; {NEW}",  # the first for NumPy 2 with neither hole
    "anyascii>=0.3",  # class names in pictures where no font has their script; pure Python
    "pillow>=10.1",  # the first with a scalable font of its own
    "pyyaml>=5.4",
    "tifffile>=2023.7.10",  # TIFFs of any channels and depth; pure Python, imported when there is one
    "tqdm>=4.60",
]
# Training, evaluation and export, whichever Paddle they run on.
TRAIN = [
    f"paddleseg=={PADDLESEG}; {OLD}",  # wants OpenCV <= 4.6.0
    *(f"{name}; {NEW}" for name in ("filelock", "scipy", "prettytable", "scikit-learn")),  # what it wants beside that
    f"numpy<2; {OLD}",  # that OpenCV and Paddle 2.6 are built against NumPy 1
    f"numpy<2.4; {NEW}",  # Paddle's float(tensor) of shape [1] fails with later ones
    "visualdl>=2.5.0",
    "matplotlib>=3.5",
    "jinja2>=3",  # `report --runs`; visualdl's server needs it, too
    f"pandas<3; {OLD}",  # visualdl needs it; 3.x wants NumPy 2
    f"pandas; {NEW}",
    "protobuf>=3.20.2,<7",  # Paddle 2.6's fleet reads a field that protobuf 7 removed
    "safetensors>=0.4",
    "setuptools",  # Paddle imports it, and Python 3.12 environments start without it
]
# `export` to ONNX, beside Paddle 3 and the packages of "deploy".
CONVERTER = [
    f"paddle2onnx>=2.0,<2.2; {OLD}",  # no wheels for Python 3.13; admits no newer onnx than 1.17.0: see SECURITY.md
    f"ml-dtypes<0.5.5; {OLD}",  # of onnx; newer ones need NumPy 2
]
# Enough to run exported models, and no more: no onnx, no Paddle.
RUNTIME = ["onnxruntime>=1.18", "openvino>=2024.0"]
# `ppliteseg serve`. The oldest without known holes: Starlette since 0.49.1 (CVE-2025-62727), python-multipart since
# 0.0.18 (CVE-2024-53981).
SERVE = ["starlette>=0.49.1,<2", "uvicorn>=0.30,<1", "python-multipart>=0.0.18,<1"]
EXTRAS = {
    "train": TRAIN + CONVERTER,  # for a Paddle that is installed already, from wherever
    "cpu": TRAIN + CONVERTER + ["paddlepaddle==3.2.2"],
    "cpu-paddle26": TRAIN + ["paddlepaddle==2.6.2"],
    "cpu-paddle33": TRAIN + CONVERTER + ["paddlepaddle==3.3.1"],
    "gpu": TRAIN + ["paddlepaddle-gpu==2.6.2"],  # the newest on the public index; newer builds: see README
    "runtime": RUNTIME,
    "deploy": RUNTIME + ["onnx>=1.17"],  # older ones have more holes; without Paddle2ONNX the newest is installed
    "data": [  # each imported only where its data is prepared
        "cityscapesscripts>=2.2",
        "numpy<2.4",  # what its evaluator calls is gone from later ones
        "pycocotools>=2.0.7",
    ],
    "tensorboard": ["tensorboard>=2.14,<3"],  # `train --use_tensorboard`; earlier ones want other versions of protobuf
    # TIFFs that are compressed by LZW, JPEG, ...; Deflate and none need nothing. Later ones bring NumPy 2, also into an
    # environment whose OpenCV (PaddleSeg's) needs NumPy 1.
    "geo": ["imagecodecs>=2023.7.10,<2026.3; python_version < '3.13'", "imagecodecs>=2026.1; python_version >= '3.13'"],
    # Class names of nearly all scripts in pictures (46 MB). Without it fonts of the system serve, or names are
    # transliterated.
    "fonts": ['weblate-fonts>=2026.1; python_version >= "3.11"'],
    "video": ["av>=12,<19"],  # overlay videos in H.264, which browsers play
    "completion": ["shtab>=1.6,<2"],  # `ppliteseg completion bash`
    "serve": SERVE,
    # Tests, and the checks of scripts/check.sh. Linters are pinned closely: another version finds other things.
    "dev": [
        "av>=12,<19",
        "pytest>=8,<10",
        "pytest-xdist>=3.5,<4",
        *SERVE,
        "selenium>=4.20,<5",  # the browser test of `serve`, where Chromium is installed
        "shtab>=1.6,<2",
        "hypothesis>=6,<7",
        # examples/ray_predict.py; the retries that it sets are elsewhere in later versions.
        'ray[data]>=2.44,<2.64; python_version >= "3.10" and python_version < "3.14"',
        f"pyarrow<25; {OLD}",  # Ray's; later ones want NumPy 2
        "kubernetes-validate>=1.30,<2",  # the schemas of examples/kubernetes
        "tritonclient[grpc]>=2.40,<3",  # its schema checks what `export --triton` writes
        "tensorboard>=2.14,<3",  # reads back what --use_tensorboard writes
        "scikit-learn>=1.2,<2",  # counts what we count, independently
        "ruff>=0.17.6,<0.18",
        "bandit>=1.8,<2",
        'mypy==2.4.1; python_version >= "3.10"',  # its number of errors is recorded; Python 3.9 has older ones only
        'import-linter>=2.15,<3; python_version >= "3.10"',  # knows the contract "acyclic_siblings"
        "pre-commit>=4,<5",
        "mkdocs-material>=9.5,<10",  # scripts/site.sh
        "mkdocstrings[python]>=0.26,<2",
        "types-PyYAML>=6,<7",
        "types-tqdm>=4,<5",
    ],
}


class BuildWithConfigs(build_py):
    """Also puts `configs/` into the package, so that they have their names without a source checkout, too."""

    def run(self) -> None:
        super().run()
        if not getattr(self, "editable_mode", False):
            shutil.copytree(
                HERE / "configs", pathlib.Path(self.build_lib, "ppliteseg_paddle", "configs"), dirs_exist_ok=True
            )


setup(
    name="ppliteseg_paddle",
    version=VERSION,
    description="PP-LiteSeg for PaddlePaddle: train in PaddleSeg's own loop, export, deploy, benchmark",
    long_description=(HERE / "README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.9,<3.15",
    classifiers=[
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3 :: Only",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(9, 15)),  # 3.14 without Paddle
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
    packages=find_packages(include=["ppliteseg_paddle", "ppliteseg_paddle.*"]),
    package_data={
        "ppliteseg_paddle": [
            "py.typed",
            "weights/zoo.yml",
            "weights/shipped/*/*",
            "weights/shipped/*/*-int8/*",
            "report/page.html.j2",
            "serve/page/*.*",
        ]
    },
    cmdclass={"build_py": BuildWithConfigs},
    install_requires=BASE,
    extras_require=EXTRAS,
    entry_points={
        "console_scripts": [
            "ppliteseg = ppliteseg_paddle.cli.main:main",
            "paddleseg = ppliteseg_paddle.cli.main:main",  # PaddleSeg ships no command of its own
        ]
    },
)

"""Installation. Every pin says why; they were installed and tried together on Python 3.9 to 3.12."""

import pathlib
import re
import shutil

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = pathlib.Path(__file__).parent
VERSION = re.search(r'__version__ = "([^"]+)"', (HERE / "ppliteseg_paddle" / "__init__.py").read_text("utf-8")).group(1)

# Enough to run an exported model with the runtime of your choice.
BASE = [
    "numpy>=1.22,<2",  # OpenCV below and Paddle 2.6 are built against NumPy 1
    "opencv-python>=4.5.4,<=4.6.0",  # PaddleSeg 2.8.0 admits no newer one; older ones have no wheels for Python 3.9+
    "pillow>=10.1",  # the first with a scalable font of its own
    "pyyaml>=5.4",
    "tqdm>=4.60",
]
# Training, evaluation and export, whichever Paddle they run on.
TRAIN = [
    "paddleseg==2.8.0",  # the loop, registry and configuration that we plug into, as released
    "visualdl>=2.5.0",
    "matplotlib>=3.5",
    "pandas<3",  # visualdl needs it; 3.x wants NumPy 2
    "protobuf>=3.20.2,<7",  # Paddle 2.6's fleet reads a field that protobuf 7 removed
    "safetensors>=0.4",
    "setuptools",  # Paddle imports it, and Python 3.12 environments start without it
]
EXTRAS = {
    "train": TRAIN,  # for a Paddle that is installed already, from wherever
    "cpu": TRAIN + ["paddlepaddle==3.2.2"],
    "cpu-paddle26": TRAIN + ["paddlepaddle==2.6.2"],
    "cpu-paddle33": TRAIN + ["paddlepaddle==3.3.1"],
    "gpu": TRAIN + ["paddlepaddle-gpu==2.6.2"],  # the newest on the public index; newer builds: see README
    "deploy": [
        "onnx>=1.15,<1.18",  # newer ones pull an ml-dtypes that needs NumPy 2
        "ml-dtypes<0.5.5",
        "onnxruntime>=1.18",
        "openvino>=2024.0",
        "paddle2onnx>=2.0,<2.2",
    ],
    "data": [  # each imported only where its data is prepared
        "cityscapesscripts>=2.2",
        "pycocotools>=2.0.7",
    ],
    # Tests, and the checks of scripts/check.sh. Linters are pinned closely: another version finds other things.
    "dev": [
        "pytest>=8,<10",
        "pytest-xdist>=3.5,<4",
        "hypothesis>=6,<7",
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
    python_requires=">=3.9,<3.13",
    packages=find_packages(include=["ppliteseg_paddle", "ppliteseg_paddle.*"]),
    package_data={"ppliteseg_paddle": ["py.typed", "weights/zoo.yml"]},
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

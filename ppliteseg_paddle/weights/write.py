"""Write files of named arrays."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppliteseg_paddle import __version__
from ppliteseg_paddle.errors import DependencyError, WeightsError
from ppliteseg_paddle.files import save_atomic
from ppliteseg_paddle.weights.rules import StateDict

SUFFIXES = (".pdparams", ".safetensors")
# paddle.save and paddle.load know a state dict by this entry: structured name -> parameter name.
_NAME_TABLE = "StructuredToParameterName@@"


def write_state_dict(path: str, state: Mapping[str, NDArray[Any]], metadata: Mapping[str, str] | None = None) -> None:
    """Write arrays as .pdparams (as paddle.save would) or .safetensors, by the extension; atomically.

    Args: metadata: what the header of a .safetensors file says of them; .pdparams has none.
    Raises: WeightsError: for another extension, or if the place cannot be written.
    """
    if not path.endswith(SUFFIXES):
        raise WeightsError(f"{path}: weights can be written as {' or '.join(SUFFIXES)}; end the name so.")
    arrays = {name: np.ascontiguousarray(array) for name, array in state.items()}
    with save_atomic(path, WeightsError) as temporary, open(temporary, "wb") as file:
        if path.endswith(".safetensors"):
            file.write(_safetensors_bytes(path, arrays, metadata or {}))
        else:
            pickle.dump({**arrays, _NAME_TABLE: {name: name for name in arrays}}, file, protocol=4)


def as_dtype(state: Mapping[str, NDArray[Any]], dtype: str, source: str) -> StateDict:
    """The floating-point arrays in another precision, others as they are.

    Args: dtype: "float32" or "float16"; source: the file that they are of, for messages.
    Raises: WeightsError: if a finite number is beyond the range of `dtype`.
    """
    converted = {}
    for name, array in state.items():
        converted[name] = array.astype(dtype) if np.issubdtype(array.dtype, np.floating) else array
        if not np.array_equal(np.isfinite(converted[name]), np.isfinite(array)):
            raise WeightsError(
                f"{source}: {name} holds numbers up to {np.abs(array).max():.3g}, which {dtype} cannot hold; keep "
                "float32."
            )
    return converted


def _safetensors_bytes(path: str, state: StateDict, metadata: Mapping[str, str]) -> bytes:
    try:
        from safetensors.numpy import save
    except ImportError:
        raise DependencyError(f"writing {path} needs the package safetensors: pip install safetensors") from None
    return bytes(save(state, metadata={"producer": f"ppliteseg_paddle {__version__}", **metadata}))

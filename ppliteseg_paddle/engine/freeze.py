"""Parts of a model that are not trained (`freeze:`): their weights get no gradient, their batch norm keeps its
statistics, and nothing is computed backward through those at the beginning of the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ppliteseg_paddle.errors import ConfigError, suggest

_SHOWN_DEPTH = 2  # of the names in a message: backbone, backbone.stages


@dataclass(frozen=True)
class Frozen:
    """What is frozen.

    Args: names: in the state dict of the model; line: that says so, with its end.
    """

    names: frozenset[str] = frozenset()
    line: str = ""


def freeze(model: Any, parts: Sequence[str], where: str) -> Frozen:
    """Freeze parts of a model, in place. To be called before its optimizer is built, and once its layers are final.

    A frozen layer is in evaluation mode also while the model trains, so that dropout does nothing. Copies of the model
    are frozen as well.

    Args: parts: names of layers or weights, as in "backbone", "backbone.stages.0"; where: they are set, for messages.
    Raises: ConfigError: for a name that the model does not have; if nothing is left to train.
    """
    if not parts:
        return Frozen()
    layers, weights = dict(model.named_sublayers()), dict(model.named_parameters())
    for part in parts:
        if part not in layers and part not in weights:
            raise ConfigError(f"{where}: the model has no part '{part}'.{_known(part, layers)}")
    names = frozenset(name for name in model.state_dict() if _in_any(name, parts))
    frozen = [parameter for name, parameter in weights.items() if name in names]
    for parameter in frozen:
        parameter.trainable = False
    if not any(not parameter.stop_gradient for parameter in weights.values()):
        raise ConfigError(f"{where} {', '.join(parts)} leaves nothing to train: name fewer parts.")
    norms = [layer for name, layer in layers.items() if hasattr(layer, "_variance") and _in_any(name, parts)]
    for layer in norms:
        layer._use_global_stats = True
    model.register_forward_pre_hook(_InEvaluationMode([part for part in parts if part in layers]))
    count, total = (sum(int(parameter.size) for parameter in group) for group in (frozen, weights.values()))
    return Frozen(
        names,
        f"frozen: {', '.join(parts)}: {count:,} of {total:,} parameters ({100 * count / total:.1f} %), and the "
        f"statistics of {len(norms):d} batch norms\n",
    )


class _InEvaluationMode:
    """Before each pass: `train()` of the whole model, which the loop calls, has set its parts to training mode.

    Reason: beside batch norm, a frozen dropout would still draw, and synchronised batch norm (GPU) looks at the mode.
    """

    def __init__(self, parts: Sequence[str]):
        self.parts = parts

    def __call__(self, model: Any, inputs: Any) -> None:
        if model.training:
            layers = dict(model.named_sublayers())
            for part in self.parts:
                layers[part].eval()


def _in_any(name: str, parts: Sequence[str]) -> bool:
    return any(name == part or name.startswith(part + ".") for part in parts)


def _known(part: str, layers: dict[str, Any]) -> str:
    """The nearest names, or those of the network's upper levels."""
    near = suggest(part, layers)
    if near:
        return near
    upper = [name for name in layers if name.count(".") < _SHOWN_DEPTH and list(layers[name].parameters())]
    return f" Its parts: {', '.join(upper)}."

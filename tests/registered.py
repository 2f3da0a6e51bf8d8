"""What is registered, for the contract tests: they hold for whatever is in the tables, also for what a plugin adds."""

import importlib

import pytest

from ppliteseg_paddle.registry import COMPONENTS


def registered(kind):
    """The components of a kind as parameters: "module:class", for `component`."""
    return [pytest.param(target, id=target.split(":")[1]) for target in COMPONENTS[kind]]


def component(target):
    module, name = target.split(":")
    return getattr(importlib.import_module(module), name)


def without_gradient(layer):
    """Names of the parameters that learn and got no gradient.

    A convolution's bias before batch norm is skipped: the norm cancels it, so its gradient is zero up to rounding.
    """
    return [
        name
        for name, parameter in layer.named_parameters()
        if not parameter.stop_gradient
        and not name.endswith("conv.bias")
        and (parameter.grad is None or not parameter.grad.abs().max() > 0)
    ]

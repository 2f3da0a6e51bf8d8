"""Read pickles without executing code in them: arrays, numbers, texts and containers only.

`.pdparams` files and PyTorch checkpoints are pickles, and a pickle may name any function to be called. This reader does
not use Python's unpickler: it reads the opcodes (`pickletools.genops`) and carries out those in the tables below;
docs/weights.md says what each may do. Names are looked up in a table of stand-ins (`stand_ins`); whatever is not in
it is refused before anything is called.
"""

from __future__ import annotations

import collections
import pickle
import pickletools
from collections.abc import Mapping
from typing import IO, Any, Callable, Literal

import numpy as np
from numpy.typing import NDArray

from ppliteseg_paddle.errors import WeightsError
from ppliteseg_paddle.weights.stand_ins import PLAIN_NAMES, TORCH_NAMES, Array, DType, Name, Storage, is_key, storage_of

# What malformed bytes make pickletools and numpy raise.
PICKLE_ERRORS = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    ImportError,
    IndexError,
    KeyError,
    MemoryError,
    OverflowError,
    RecursionError,
    UnicodeDecodeError,
    AssertionError,
)
MAX_DEPTH = 100  # of containers in containers

_PUSH_ARGUMENT = frozenset(
    [
        # fmt: off
        "INT",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG",
        "LONG1",
        "LONG4",
        "FLOAT",
        "BINFLOAT",
        "STRING",
        "BINSTRING",
        "SHORT_BINSTRING",
        "UNICODE",
        "BINUNICODE",
        "SHORT_BINUNICODE",
        "BINUNICODE8",
        "BINBYTES",
        "SHORT_BINBYTES",
        "BINBYTES8",
        "BYTEARRAY8",
        # fmt: on
    ]
)
_PUSH_NEW: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PUTS, _GETS = frozenset(["PUT", "BINPUT", "LONG_BINPUT"]), frozenset(["GET", "BINGET", "LONG_BINGET"])


class ArrayUnpickler:
    """Unpickles numpy arrays in plain containers.

    Raises: WeightsError: for any other class or function, without calling it, and for opcodes that arrays do not need.
    """

    names: Mapping[Name, Callable[..., Any]] = PLAIN_NAMES

    def __init__(self, file: IO[bytes]):
        self._file = file
        self._stack: list[Any] = []
        self._marks: list[int] = []  # how long the stack was at each open MARK
        self._memo: dict[int, Any] = {}
        self._copied = self._begin = self._position = 0

    def load(self) -> Any:
        """The next object of the file, up to its STOP. Nothing after it is read."""
        self._begin = self._file.tell()
        for opcode, argument, position in pickletools.genops(self._file):
            self._position = position or 0
            if opcode.name == "STOP":
                return resolved(self._pop(), lambda value: value.value if isinstance(value, Array) else value)
            self._step(opcode.name, argument)
        raise EOFError("it has no end")

    def persistent_load(self, pid: Any) -> Any:
        raise WeightsError("the file refers to something outside itself")

    def _step(self, name: str, argument: Any) -> None:
        if name in _PUSH_ARGUMENT:
            self._stack.append(argument)
        elif name in _PUSH_NEW:
            self._stack.append(_PUSH_NEW[name]())
        elif name in _TUPLES:
            self._stack.append(tuple(reversed([self._pop() for _ in range(_TUPLES[name])])))
        elif name in _PUTS or name == "MEMOIZE":
            self._memo[len(self._memo) if name == "MEMOIZE" else argument] = self._top()
        elif name in _GETS:
            self._stack.append(self._memo[argument])
        elif name in _ACTIONS:
            _ACTIONS[name](self, argument)
        elif name not in ("PROTO", "FRAME"):
            raise WeightsError(f"the file uses pickle's opcode {name}, which arrays do not need")

    # The stack ---------------------------------------------------------------------------------
    def _top(self) -> Any:
        if len(self._stack) <= (self._marks[-1] if self._marks else 0):
            raise pickle.UnpicklingError("its stack is empty")
        return self._stack[-1]

    def _pop(self) -> Any:
        top = self._top()
        self._stack.pop()
        return top

    def _mark(self, _argument: Any) -> None:
        self._marks.append(len(self._stack))

    def _pop_mark(self, _argument: Any = None) -> list[Any]:
        if not self._marks:
            raise pickle.UnpicklingError("it has no mark")
        begin = self._marks.pop()
        items = self._stack[begin:]
        del self._stack[begin:]
        return items

    def _pop_one(self, _argument: Any) -> None:
        if self._marks and self._marks[-1] == len(self._stack):
            self._marks.pop()
        else:
            self._pop()

    # Containers --------------------------------------------------------------------------------
    def _list(self, _argument: Any) -> None:
        self._stack.append(self._pop_mark())

    def _tuple(self, _argument: Any) -> None:
        self._stack.append(tuple(self._pop_mark()))

    def _dict(self, _argument: Any) -> None:
        items = self._pop_mark()
        self._stack.append({})
        self._set(items)

    def _append(self, _argument: Any) -> None:
        self._extend([self._pop()])

    def _appends(self, _argument: Any) -> None:
        self._extend(self._pop_mark())

    def _extend(self, items: list[Any]) -> None:
        target = self._top()
        if type(target) is not list:
            raise WeightsError("the file appends to something that is no list")
        target.extend(items)

    def _setitem(self, _argument: Any) -> None:
        value, key = self._pop(), self._pop()
        self._set([key, value])

    def _setitems(self, _argument: Any) -> None:
        self._set(self._pop_mark())

    def _set(self, items: list[Any]) -> None:
        target = self._top()
        if type(target) not in (dict, collections.OrderedDict) or len(items) % 2:
            raise WeightsError("the file sets items of something that is no dict")
        for key, value in zip(items[::2], items[1::2]):
            if not is_key(key):
                raise WeightsError(f"a dict in the file has a key of type {type(key).__name__}")
            target[key] = value

    # Names, calls and states -------------------------------------------------------------------
    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._stack.append(self._find(module, name))

    def _stack_global(self, _argument: Any) -> None:
        name, module = self._pop(), self._pop()
        if type(name) is not str or type(module) is not str:
            raise WeightsError("the file asks for a name that is no text")
        self._stack.append(self._find(module, name))

    def _find(self, module: str, name: str) -> Name:
        if (module, name) in self.names:
            return Name(module, name)
        raise WeightsError(
            f"the file asks for '{module}.{name}', which arrays do not need; it was not read, as it may run "
            "commands. Use a file from a source that you trust."
        )

    def _reduce(self, _argument: Any) -> None:
        arguments, function = self._pop(), self._pop()
        if type(function) is not Name or type(arguments) is not tuple:
            raise WeightsError("the file calls something that is no function")
        self._spend(arguments)
        self._stack.append(self.names[function](*arguments))

    def _build(self, _argument: Any) -> None:
        state, target = self._pop(), self._top()
        if isinstance(target, (DType, Array)):
            self._spend(state if type(state) is tuple else ())
            target.build(state)
        elif type(target) is not collections.OrderedDict:  # PyTorch gives these a `_metadata`, which is not needed
            raise WeightsError(f"the file changes the state of a {type(target).__name__}")

    def _spend(self, arguments: tuple[Any, ...]) -> None:
        """Calls copy what they are given. A pickle can give one text or list again and again: all copies have to be in
        proportion to what was read."""
        self._copied += sum(len(a) for a in arguments if isinstance(a, (str, bytes, bytearray, list, tuple)))
        if self._copied > (1 << 16) + 4 * (self._position - self._begin):
            raise WeightsError("the file uses the same data again and again; it would fill the memory")

    def _persistent(self, _argument: Any) -> None:
        self._stack.append(self.persistent_load(self._pop()))


_ACTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "MARK": ArrayUnpickler._mark,
    "POP": ArrayUnpickler._pop_one,
    "POP_MARK": ArrayUnpickler._pop_mark,
    "LIST": ArrayUnpickler._list,
    "TUPLE": ArrayUnpickler._tuple,
    "DICT": ArrayUnpickler._dict,
    "APPEND": ArrayUnpickler._append,
    "APPENDS": ArrayUnpickler._appends,
    "SETITEM": ArrayUnpickler._setitem,
    "SETITEMS": ArrayUnpickler._setitems,
    "GLOBAL": ArrayUnpickler._global,
    "STACK_GLOBAL": ArrayUnpickler._stack_global,
    "REDUCE": ArrayUnpickler._reduce,
    "BUILD": ArrayUnpickler._build,
    "BINPERSID": ArrayUnpickler._persistent,
}


def resolved(value: Any, leaf: Callable[[Any], Any]) -> Any:
    """A copy of nested lists, tuples and dicts with `leaf` applied to all else, once to each object.

    Raises: WeightsError: if they are nested too deep, or hold themselves.
    """
    done: dict[int, Any] = {}

    def copy(value: Any, depth: int) -> Any:
        if id(value) in done:
            return done[id(value)]
        if depth > MAX_DEPTH:
            raise WeightsError(f"the file's containers are nested more than {MAX_DEPTH:d} deep")
        if isinstance(value, dict):
            result: Any = {key: copy(item, depth + 1) for key, item in value.items()}
        elif type(value) in (list, tuple):
            result = type(value)([copy(item, depth + 1) for item in value])
        else:
            result = leaf(value)
        done[id(value)] = result
        return result

    return copy(value, 0)


class TorchUnpickler(ArrayUnpickler):
    """Unpickles a PyTorch state dict without PyTorch; tensors come out as `TensorView`s."""

    names = TORCH_NAMES

    def persistent_load(self, pid: Any) -> Storage:
        return storage_of(pid)


def numbers_from_bytes(data: bytes, storage_dtype: str, byte_order: Literal["<", ">"] = "<") -> NDArray[Any]:
    """The flat array that a storage's bytes stand for; bfloat16 as float32."""
    if storage_dtype == "bfloat16":
        return (np.frombuffer(data, byte_order + "u2").astype(np.uint32) << 16).view(np.float32)
    dtype = np.dtype(storage_dtype)
    return np.frombuffer(data, dtype.newbyteorder(byte_order)).astype(dtype, copy=False)

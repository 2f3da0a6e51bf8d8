"""Programs of pickle opcodes, for the tests of the unpickler: crafted by hand, or at random from a seed.

Run as a script, it reads one file of each of many programs, so that a crash ends this process and not the tests:
    python pickle_programs.py FOLDER COUNT
"""

import json
import os
import random
import struct
import sys
import warnings
import zipfile

NUMBERS = b"\x07" * 64  # the content of every storage and array: any other byte in a result is foreign memory
EDGES = [
    0,
    1,
    2,
    3,
    7,
    8,
    16,
    17,
    -1,
    255,
    1 << 31,
    1 << 32,
    1 << 61,
    1 << 62,
    (1 << 63) - 1,
    1 << 63,
    1 << 64,
    -(1 << 63),
]
NAMES = [
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy.core.numeric", "_frombuffer"),
    ("collections", "OrderedDict"),
    ("_codecs", "encode"),
    ("builtins", "tuple"),
    ("torch", "Size"),
    ("torch", "FloatStorage"),
    ("torch", "BFloat16Storage"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
]
TEXTS = [
    "shape",
    "strides",
    "offset",
    "storage",
    "items",
    "__class__",
    "__defaults__",
    "latin1",
    "f4",
    "i8",
    "O8",
    "V8",
    "<",
    "C",
    "0",
]
OPCODES = b"(t\x85\x86\x87RRRbbbsuaeld012Q\x94q\x00h\x00\x81\x92o\x8f\x90\x91\x97\x98})]"


def integer(value):
    if -(1 << 31) <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def data(value):
    return b"B" + struct.pack("<I", len(value)) + value


def name(module, attribute):
    return f"c{module}\n{attribute}\n".encode()


def items(*parts):
    return b"(" + b"".join(parts) + b"t"


def call(module, attribute, *arguments):
    return name(module, attribute) + items(*arguments) + b"R"


def pairs(*parts):
    return b"}(" + b"".join(parts) + b"u"


def dtype(code="f4", order="<"):
    minus_one = integer(-1)
    state = items(integer(3), text(order), b"N", b"N", b"N", minus_one, minus_one, integer(0))
    return call("numpy", "dtype", text(code), b"\x89", b"\x88") + state + b"b"


def numpy_integer(value):
    raw = (value & ((1 << 64) - 1)).to_bytes(8, "little")
    return call("numpy.core.multiarray", "scalar", dtype("i8"), data(raw))


SIXTEEN, ONE, ZERO = integer(16), integer(1), integer(0)


def array(shape=(SIXTEEN,), code="f4", content=NUMBERS):
    made = call("numpy.core.multiarray", "_reconstruct", name("numpy", "ndarray"), items(integer(0)), data(b"b"))
    return made + items(integer(1), items(*shape), dtype(code), b"\x89", data(content)) + b"b"


def storage(count=16):
    return items(text("storage"), name("torch", "FloatStorage"), text("0"), text("cpu"), integer(count)) + b"Q"


def tensor(offset=ZERO, shape=(SIXTEEN,), strides=(ONE,)):
    return call("torch._utils", "_rebuild_tensor_v2", storage(), offset, items(*shape), items(*strides), b"\x89", b"}")


def state_dict(value):
    return b"\x80\x02" + pairs(text("a"), value) + b"."


def write(path, program):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data.pkl", program)
        archive.writestr("m/data/0", NUMBERS)
    return str(path)


def random_program(seed):
    """Mostly well-formed calls with arguments from the edges, with single opcodes strewn in."""
    rng = random.Random(seed)

    def some(kinds, low=0, high=3):
        return [rng.choice(kinds)() for _ in range(rng.randint(low, high))]

    def edge():
        return integer(rng.choice(EDGES if rng.random() < 0.5 else EDGES[:6]))

    def number():
        return rng.choice([edge, edge, lambda: numpy_integer(rng.choice(EDGES))])()

    def attributes():
        return pairs(
            *(text(rng.choice(TEXTS)) + rng.choice([number, lambda: items(*some([number]))])() for _ in range(3))
        )

    def state():
        slots = rng.random() < 0.3
        return (items(b"N", attributes()) if slots else attributes()) + b"b"

    kinds = [
        edge,
        number,
        attributes,
        lambda: text(rng.choice(TEXTS)),
        lambda: data(NUMBERS[: rng.choice([0, 1, 4, 8, 64])]),
        lambda: name(*rng.choice(NAMES)),
        lambda: call(*rng.choice(NAMES), *some(kinds)),
        lambda: tensor(edge(), some([edge], 1), some([edge], 1)),
        tensor,
        lambda: tensor() + state(),
        lambda: array(some([number], 1), rng.choice(["f4", "i8", "O8", "U2", "V8", "?"])),
        lambda: array() + state(),
        lambda: dtype(rng.choice(TEXTS), rng.choice("<>|=x")) + state(),
        lambda: name(*rng.choice(NAMES)) + state(),
        lambda: items(*some(kinds)),
        lambda: bytes([rng.choice(OPCODES)]),
    ]
    parts = some(kinds, 2, 2) if rng.random() < 0.8 else some(kinds, 3, 6)
    return b"\x80\x02" + pairs(text("kept"), array(), text("a"), parts[0], text("b"), b"".join(parts[1:])) + b"."


def outcome(path):
    """What becomes of a file: "error", "arrays", or what is wrong with the arrays."""
    from ppliteseg_paddle.errors import WeightsError
    from ppliteseg_paddle.weights.read import read_state_dict

    try:
        arrays = read_state_dict(path)
    except WeightsError:
        return "error"
    for found in arrays.values():
        if found.nbytes > 8 * len(NUMBERS) or not set(found.tobytes()) <= {0, 7}:
            return f"foreign numbers in an array of shape {found.shape}"
    return "arrays"


def main(folder, count):
    warnings.simplefilter("ignore")
    counts = {}
    for seed in range(count):
        path = write(os.path.join(folder, "program.pth"), random_program(seed))
        print(f"seed {seed}", file=sys.stderr, flush=True)  # the last one is the one that crashed
        found = outcome(path)
        counts[found] = counts.get(found, 0) + 1
    print(json.dumps(counts))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

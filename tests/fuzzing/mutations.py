"""Changes of valid files, drawn from a `random.Random`: of bytes, of texts, of trees (YAML, JSON), of archives."""

import contextlib
import copy
import gzip
import io
import lzma
import re
import struct
import tarfile
import zipfile
import zlib

EDGES = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1]
VALUES = [
    None, True, False, 0, -1, 1, 3, 255, 256, 2**31, 2**63, 10**30, 0.5, -0.0, 1e-300, 1e308, float("nan"),
    float("inf"), "", " ", "a", "x" * 400, "../../x", "/dev/null", "${HOME}", "${NOT_SET}", "${A:-b}", "\0", "\u00fc\n",
    "1e-5", "true", [], {}, [[]], [None], [1, 2], ["a"], {"type": "X"}, {"a": {"b": []}}, [0.5] * 200, {1: 2},
]  # fmt: skip
TOKENS = [
    "&a ", "*a", "<<: *a", "&a [*a]", "!!python/name:os.system ''", "!!int ", "!!binary ", "!!set ", "!<x> ", "? ",
    "- ", "[", "]", "{", "}", "|\n", ">\n", "%YAML 1.1\n---\n", "\t", "---\n", "...\n", "'", '"', "#", ": ", ",",
    "2020-99-99", "0x_", "1:99:1", "\n", "  ", "_base_: c.yml\n", "[" * 300, "\\", "\0", "\u2028", "\ufeff", "9" * 5000,
    "-", "null",
]  # fmt: skip


def mutate_bytes(rng, content, others=()):
    """One to four changes, half of them near the beginning, where headers are."""
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 2, 3, 4])):
        _change(rng, data, others)
    return bytes(data)


def _change(rng, data, others):
    if not data:
        data += rng.randbytes(8)
        return
    start = rng.randrange(min(len(data), 256 if rng.random() < 0.5 else len(data)))
    length = min(rng.choice([1, 2, 4, 8, 16, 64, 256, 4096]), len(data) - start)
    change = rng.randrange(10)
    if change <= 1:
        for _ in range(rng.randint(1, 8)):
            data[rng.randrange(start, len(data))] ^= 1 << rng.randrange(8)
    elif change <= 3:
        size, order = rng.choice([1, 2, 4, 8]), rng.choice(["little", "big"])
        data[start : start + size] = (rng.choice(EDGES) & ((1 << 8 * size) - 1)).to_bytes(size, order)
    elif change == 4:
        del data[start : start + length]
    elif change == 5:
        data[start:start] = data[start : start + length] * rng.choice([1, 1, 2, 50])
    elif change == 6:
        data[start : start + length] = rng.randbytes(length)
    elif change == 7:
        del data[start:]
    elif change == 8 and others:
        other = rng.choice(others)
        data[start:] = other[rng.randrange(len(other) or 1) :]
    else:
        data[start : start + length] = bytes([rng.choice([0, 0xFF, 0x20])]) * length


def mutate_text(rng, text):
    """One to three tokens put in, or lines removed, doubled, exchanged or indented."""
    for _ in range(rng.randint(1, 3)):
        lines = text.split("\n")
        first, second = rng.randrange(len(lines)), rng.randrange(len(lines))
        change = rng.randrange(8)
        if change <= 3:
            place = rng.randint(0, len(text))
            text = text[:place] + rng.choice(TOKENS) + text[place:]
            continue
        if change == 4:
            del lines[first]
        elif change == 5:
            lines.insert(second, lines[first])
        elif change == 6:
            lines[first], lines[second] = lines[second], lines[first]
        else:
            lines[first] = " " * rng.randint(1, 4) + lines[first]
        text = "\n".join(lines)
    return text


def mutate_tree(rng, tree):
    """One to three values of nested dicts and lists replaced, removed, doubled or moved."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.randint(1, 3)):
        places = list(_places(tree))
        if not places:
            return rng.choice(VALUES)
        holder, key = rng.choice(places)
        change = rng.randrange(8)
        if change <= 3:
            holder[key] = copy.deepcopy(rng.choice(VALUES))
        elif change == 4:
            del holder[key]
        elif change == 5:
            other_holder, other_key = rng.choice(places)
            holder[key] = copy.deepcopy(other_holder[other_key])
        elif change == 6 and isinstance(holder, dict):
            text = str(key)
            name = rng.choice([text + "s", text[:-1], text.upper(), rng.choice(TOKENS), rng.choice([0, None, 1.5])])
            holder[name] = holder.pop(key)
        else:
            for _ in range(rng.choice([1, 2, 120])):
                holder[key] = [holder[key]]
    return tree


def _places(tree):
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ():
        yield tree, key
        yield from _places(tree[key])


# --------------------------------------------------------------------------------------------
# Formats whose checksums would hide a change from what lies behind them
# --------------------------------------------------------------------------------------------
def mutate_png(rng, content, others=()):
    """A chunk changed, its length and checksum right again."""
    chunks, place = [], 8
    while place + 8 <= len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        chunks.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + length]))
        place += length + 12
    index = rng.randrange(len(chunks))
    kind, data = chunks[index]
    if kind == b"IDAT" and rng.random() < 0.5:
        data = zlib.compress(mutate_bytes(rng, zlib.decompressobj().decompress(data)))
    else:
        data = mutate_bytes(rng, data)
    chunks[index] = (kind if rng.random() < 0.9 else rng.choice([b"PLTE", b"tRNS", b"eXIf", b"IDAT", b"acTL"]), data)
    return content[:8] + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def mutate_zip(rng, content, others=()):
    """A member's name or content changed, and the archive written anew."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(info, archive.read(info)) for info in archive.infolist()]
    made = io.BytesIO()
    index = rng.randrange(len(members))
    with zipfile.ZipFile(made, "w") as archive:
        for number, (info, data) in enumerate(members):
            fresh = zipfile.ZipInfo(info.filename)
            if number == index and rng.random() < 0.2:
                fresh.filename = rng.choice([*_NAMES, *(other.filename for other, _ in members)])
                fresh.external_attr = rng.choice([0, 0xA1FF << 16, 0x41FF << 16])
            elif number == index:
                data = mutate_bytes(rng, data)
            fresh.compress_type = rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
            archive.writestr(fresh, data)
    return made.getvalue()


_NAMES = ["../x", "/x", "a/../../x", "C:/x", "model.pdparams/x", "x" * 300, "\u00fc", "a//b", "."]
_SQUEEZE = {b"\x1f\x8b": (gzip.decompress, lambda data: gzip.compress(data, mtime=0))}
_SQUEEZE[b"\xfd7"] = (lzma.decompress, lzma.compress)


def mutate_tar(rng, content, others=()):
    """A header field changed with its checksum right again, or bytes of a member, inside of the compression."""
    unpacked, packed = _SQUEEZE.get(content[:2], (bytes, bytes))
    data = bytearray(unpacked(content))
    if rng.random() < 0.3:
        data = bytearray(mutate_bytes(rng, bytes(data)))
    else:
        with tarfile.open(fileobj=io.BytesIO(bytes(data))) as archive:
            starts = [info.offset for info in archive]
        start = rng.choice(starts)
        field, length = rng.choice(
            [(0, 100), (100, 8), (124, 12), (136, 12), (156, 1), (157, 100), (257, 8), (345, 155)]
        )
        value = rng.choice(
            [
                *(name.encode()[:length] for name in _NAMES),
                b"0",
                b"1",
                b"2",
                b"5",
                b"x",
                b"L",
                b"S",
                b"g",
                b"\x80" + b"\xff" * 11,
            ]
        )[:length]
        data[start + field : start + field + length] = value.ljust(length, b"\0")
        data[start + 148 : start + 156] = b" " * 8
        data[start + 148 : start + 156] = b"%06o\0 " % sum(data[start : start + 512])
    return packed(bytes(data))


# --------------------------------------------------------------------------------------------
# Graphs: what a parser accepts and a runtime may not expect
# --------------------------------------------------------------------------------------------
def mutate_xml(rng, content, others=()):
    """One to three attributes exchanged or set to an edge."""
    parts = re.split(rb'("[^"]*")', content)
    places = range(1, len(parts), 2)
    for _ in range(rng.randint(1, 3)):
        place = rng.choice(places)
        edge = str(rng.choice([*EDGES, -1])).encode()
        changed = b'"' + mutate_bytes(rng, parts[place][1:-1]) + b'"'
        parts[place] = rng.choice([b'"%s"' % edge, b'""', parts[rng.choice(places)], changed])
    return b"".join(parts)


def mutate_onnx(rng, content, others=()):
    """One to three fields of nodes, attributes, weights and values set to an edge, exchanged or removed."""
    import onnx

    model = onnx.ModelProto.FromString(content)
    for _ in range(rng.randint(1, 3)):
        message, field, value = rng.choice(list(_set_fields(model)))
        name, repeated = (
            field.name,
            not isinstance(value, (int, float, str, bytes)) and not hasattr(value, "DESCRIPTOR"),
        )
        if rng.random() < 0.2 or hasattr(value, "DESCRIPTOR"):
            message.ClearField(name)
        elif repeated and len(value):
            index = rng.randrange(len(value))
            if isinstance(value[0], int):
                value[index] = rng.choice([-1, 0, 1, 7, 1 << 31, (1 << 63) - 1])
            elif rng.random() < 0.5:
                value.append(value[index])
            else:
                del value[index]
        elif isinstance(value, int):
            with contextlib.suppress(ValueError):  # an enumeration takes its own values only
                setattr(message, name, rng.choice([0, 1, 2, 7, 255, 1 << 30]))
        elif isinstance(value, str):
            setattr(message, name, rng.choice(["", "x", "scores", "Conv", "Loop", "ai.onnx.ml", "a" * 9999]))
        elif isinstance(value, bytes):
            setattr(message, name, mutate_bytes(rng, value))
    return model.SerializeToString()


def _set_fields(message):
    for field, value in message.ListFields():
        yield message, field, value
        if field.message_type is not None:
            for inner in [value] if hasattr(value, "DESCRIPTOR") else value:
                yield from _set_fields(inner)

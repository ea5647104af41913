"""What readers are given: bytes, valid files with bytes or values changed, and structures that no file should have."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

PARTS = (
    *(b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\xc3(", b"\\ud800", b"\r", b"\xe2\x80\xa8", b"\x1b[2J"),
    *(b"[" * 300, b"{" * 300, b'{"a":' * 300, b'"', b"'", b"\\", b",", b":", b"- ", b"\t", b"}", b"]"),
    *(b"NaN", b"-Infinity", b"1e999", b"9" * 5000, b"-1", b"null", b"true", b"0x1F", b"2001-01-01"),
    *(b"&a [*a]", b"*a", b"<<: *a", b"!!python/object/apply:os.system [exit]", b"!!binary =", b"? [a]", b"%YAML 9.9\n"),
    *(b"../../x", b"/etc/passwd", b"C:\\x", b"x" * 5000),
)
ODD_TEXTS = (
    *("", " ", ".", "..", "../../x", "/etc/passwd", "a/b", "C:\\x", "~", "~nobody/x", "con", "nul.txt", "-rf"),
    *("a\0b", "a\nb", "a\rb", "a\u2028b", "\ud800", "\U0010ffff", "\u202ex", "\x1b[2J", "e\u0301", "\ufeffa"),
    *("[red]", "[/]", "{0}", "%s", "$(exit)", "NaN", "1e-3", "all", "<pad>"),
)
ODD_NUMBERS = (0, -1, 2, 2**31, 2**63, -(2**63) - 1, 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf"))

# Made from a number, so that a failure's description stays readable.
_long_texts = st.tuples(st.sampled_from(("x", "a/", "\xe9")), st.sampled_from((300, 5000))).map(
    lambda given: given[0] * given[1]
)
texts = st.one_of(st.sampled_from(ODD_TEXTS), st.text(max_size=20), _long_texts)
leaves = st.one_of(st.none(), st.booleans(), st.sampled_from(ODD_NUMBERS), texts)


def _deep(depth: int) -> Any:
    value: Any = []
    for level in range(depth):
        value = {"a": value} if level % 2 else [value]
    return value


values = st.one_of(
    leaves,
    st.sampled_from((3, 40, 200)).map(_deep),
    st.integers(0, 300).map(lambda length: ["x"] * length),
    st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
        max_leaves=8,
    ),
)


@st.composite
def changed_bytes(draw: st.DrawFn, valid: Sequence[bytes]) -> bytes:
    """A valid file with some bytes changed, left out, doubled, put in, or cut off."""
    data = bytearray(draw(st.sampled_from(valid)))
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        length = draw(st.integers(1, 64))
        kind = draw(st.sampled_from(("flip", "flip", "remove", "double", "part", "random", "cut")))
        if kind == "flip" and data:
            data[place] ^= 1 << draw(st.integers(0, 7))
        elif kind == "remove":
            del data[place : place + length]
        elif kind == "double":
            data[place:place] = data[place : place + length]
        elif kind == "part":
            data[place:place] = draw(st.sampled_from(PARTS))
        elif kind == "random":
            data[place : place + length] = draw(st.binary(max_size=length))
        elif kind == "cut":
            del data[place:]
    return bytes(data)


@st.composite
def changed_values(draw: st.DrawFn, valid: Sequence[Any]) -> Any:
    """A valid structure with some of its values replaced, removed or renamed."""
    root = [copy.deepcopy(draw(st.sampled_from(valid)))]
    for _ in range(draw(st.integers(1, 4))):
        holder: Any = root
        key: Any = 0
        # Stops half-way as often as not, so that whole sections are replaced too.
        while isinstance(holder[key], dict | list) and holder[key] and draw(st.integers(0, 3)):
            holder = holder[key]
            key = draw(st.sampled_from(sorted(holder, key=repr) if isinstance(holder, dict) else range(len(holder))))
        kind = draw(st.sampled_from(("replace", "replace", "remove", "rename")))
        if kind == "replace" or holder is root:
            holder[key] = copy.deepcopy(draw(values))
        elif kind == "remove":
            del holder[key]
        elif isinstance(holder, dict):
            holder[draw(texts)] = holder.pop(key)
    return root[0]


def as_json(value: Any) -> bytes:
    """JSON as Python writes it, including NaN and unpaired surrogates."""
    return json.dumps(value).encode()


def json_files(valid: Sequence[Any]) -> st.SearchStrategy[bytes]:
    """JSON files: changed by value, changed by byte, any structure, any bytes."""
    written = [as_json(value) for value in valid]
    return st.one_of(
        st.sampled_from(written),
        changed_values(valid).map(as_json),
        changed_bytes(written),
        values.map(as_json),
        st.binary(max_size=200),
    )


def json_line_files(valid: Sequence[Any]) -> st.SearchStrategy[bytes]:
    """Files of JSON lines, some of them changed."""
    rows = st.lists(st.one_of(st.sampled_from(valid), changed_values(valid), values), max_size=4)
    whole = b"\n".join(map(as_json, valid))
    return st.one_of(
        rows.map(lambda rows: b"\n".join(map(as_json, rows))), changed_bytes([whole]), st.binary(max_size=200)
    )

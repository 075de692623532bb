# SPDX-License-Identifier: Apache-2.0
"""What one pass over a text says of it is what a slow look says."""

from __future__ import annotations

import re

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from zcrx_arrow._native import ffi
from zcrx_arrow.decoders._text import look

OBJECTS, ROWS = ("{", "}", "\0"), ("\0", "\0", '"')
# Long enough for several blocks of 64 bytes, from what matters and what does not.
PARTS = [
    b"\n",
    b"\r",
    b"{",
    b"}",
    b"null",
    b" ",
    b'"',
    b"\xc3\xa9",
    b"\xff",
    b"x" * 61,
    b'{"a":1}\n',
]
TEXTS = st.lists(st.sampled_from(PARTS), max_size=40).map(b"".join)
REGULAR = st.lists(
    st.integers(0, 90).map(lambda n: b'{"a":"' + b"y" * n + b'"}\n'), min_size=1, max_size=12
).map(b"".join)


def slowly(text: bytes, first: str, last: str, quote: str) -> tuple[int, bool, bool, bool]:
    lines = [line.removesuffix(b"\r") for line in text.split(b"\n")]
    lines = [line for line in lines if line]
    wrong = any(
        b"\r" in line
        or (first != "\0" and not line.startswith(first.encode()))
        or (last != "\0" and not line.endswith(last.encode()))
        for line in lines
    )
    try:
        text.decode()
        utf8 = True
    except UnicodeDecodeError:
        utf8 = False
    behind = first == "{" and re.search(rb"\}[ \t\r\n]*null", text) is not None
    return -1 if wrong else len(lines), utf8, quote != "\0" and quote.encode() in text, behind


@pytest.mark.parametrize("kind", [OBJECTS, ROWS], ids=["objects", "rows"])
@given(text=st.one_of(TEXTS, REGULAR, st.tuples(REGULAR, TEXTS).map(b"".join)))
@example(text=b"")
@example(text=b"{}" * 32 + b"\nnull\n")
@example(text=b'{"a":1}\n' * 8 + b"null")
@example(text=b'{"a":1}\n' * 7 + b'{"ab":}' + b"\nnull" + b" " * 64)
def test_one_pass(kind, text):
    found = look(pa.py_buffer(text), ffi.new("struct za_text_kind *", [ord(c) for c in kind]))
    seen = (found.lines, bool(found.utf8), bool(found.quoted), bool(found.null_behind))
    assert seen == slowly(text, *kind)

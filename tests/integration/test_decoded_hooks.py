# SPDX-License-Identifier: Apache-2.0
"""What a decoded source offers to connectors."""

from __future__ import annotations

import pyarrow as pa
import pytest

import zcrx_arrow as zc
from tests.conftest import eventually
from zcrx_arrow import decoders, framing

NUMBERS = pa.schema([("a", pa.int64())])


class Twice(decoders.Decoder):
    """Gives two batches for each one."""

    framing = framing.FixedSize(8)
    schema = NUMBERS

    def blocks(self, framing):
        return False

    def start(self, context, framing):
        return self

    def decode(self, raw):
        numbers = [int.from_bytes(each.as_py()) for each in raw.to_arrow()["payload"]]
        return [pa.RecordBatch.from_pydict({"a": numbers}, NUMBERS)] * 2

    def select(self, columns):
        pass

    def forget(self, connection):
        pass


def test_batches_are_looked_at_before_they_are_decoded(send):
    seen = []
    with zc.listen("127.0.0.1:0", decode=Twice(), accept=1) as source:
        source.watch(lambda raw: seen.append(sorted(raw.distinct)))
        send(source.address, bytes(8)).join()
        first = source.next_batch("20 s")
        assert seen == [[1]]
        # What came with it is there without a wait, and goes to nobody else.
        assert source.take_decoded() == [first]
        assert source.take_decoded() == []
        assert source.next_batch("20 s") is None


def test_a_look_that_fails_ends_the_feed_as_a_decoder_does(send):
    def broken(_raw):
        raise RuntimeError("no, thanks")

    with zc.listen("127.0.0.1:0", decode=Twice(), accept=1) as source:
        source.watch(broken)
        send(source.address, bytes(8)).join()
        with pytest.raises(RuntimeError, match="no, thanks"):
            source.next_batch("20 s")
        with pytest.raises(zc.ZcrxError, match="whose rows are lost"):
            source.next_batch("20 s")


def test_a_schema_that_the_first_rows_tell_is_not_waited_for(send):
    with zc.listen("127.0.0.1:0", decode=decoders.Ndjson(), accept=1) as source:
        assert source.known_schema is None
        send(source.address, b'{"a": 1}\n').join()
        eventually(lambda: source.metrics().rows or source.next_batch("20 s"))
        assert source.known_schema == source.schema == NUMBERS

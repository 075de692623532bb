# SPDX-License-Identifier: Apache-2.0
"""Protobuf messages, each after its length, as its libraries write them."""

from __future__ import annotations

import io
import threading

import pyarrow as pa
import pytest
from google.protobuf import descriptor_pb2, proto, struct_pb2, timestamp_pb2
from google.protobuf.internal import encoder

import zcrx_arrow as zc
from tests.formats.peers import ask
from tests.rows import by_connection
from zcrx_arrow import framing as fr


def some_messages() -> list:
    made: list = [timestamp_pb2.Timestamp(), timestamp_pb2.Timestamp(seconds=-1, nanos=999_999_999)]
    for size in (0, 1, 127, 128, 300, 16_383, 16_384, 100_000):
        value = struct_pb2.Struct()
        value.update({"text": "x" * size, "list": [1, None, True, {"a": size}]})
        made.append(value)
    for module in (descriptor_pb2, struct_pb2, timestamp_pb2):
        description = descriptor_pb2.FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(description)
        made.append(description)
    return made


def by_prefix(messages) -> bytes:
    """As ``writeDelimitedTo`` of the other languages."""
    sink = io.BytesIO()
    for message in messages:
        proto.serialize_length_prefixed(message, sink)
    return sink.getvalue()


def by_hand(messages) -> bytes:
    parts = [message.SerializeToString() for message in messages]
    return b"".join(encoder._VarintBytes(len(part)) + part for part in parts)


@pytest.mark.parametrize("write", [by_prefix, by_hand])
def test_delimited_messages(write):
    messages = some_messages() * 5
    with zc.listen("127.0.0.1:0", framing=fr.Varint(), accept=2) as source:
        peers = threading.Thread(
            target=ask, args=(source.address, write(messages), write(messages))
        )
        peers.start()
        rows = by_connection(source)
        peers.join()
    assert len(rows) == 2
    for received in rows.values():
        parsed = [type(m).FromString(data) for m, (_, data) in zip(messages, received, strict=True)]
        assert parsed == messages
        stream = write(messages)
        assert all(stream[at : at + len(data)] == data for at, data in received)


def test_a_message_of_length_zero_is_a_row():
    stream = by_prefix([timestamp_pb2.Timestamp()] * 3)
    assert stream == b"\0\0\0"
    table = zc.frame(stream, fr.Varint(), payload_type="large_binary").read_all()
    assert table["payload"].to_pylist() == [b""] * 3
    assert table["payload"].type == pa.large_binary()
    assert table["position"].to_pylist() == [1, 2, 3]

# SPDX-License-Identifier: Apache-2.0
"""Binary messages to one column."""

from __future__ import annotations

import struct

from benchmarks.memory import data
from benchmarks.memory.timing import measure


def frame_prefixed(total: int) -> None:
    """Cut length-prefixed messages with this project, end to end."""
    import zcrx_arrow as zc  # noqa: PLC0415 (the peer does without)

    messages, rows = data.prefixed(total)
    framing = zc.framing.LengthPrefixed("u32be")
    measure(
        len(messages), rows, lambda: sum(batch.num_rows for batch in zc.frame(messages, framing))
    )


def struct_prefixed(total: int) -> None:
    """The loop that one writes in Python, and a column of each batch."""
    import pyarrow as pa  # noqa: PLC0415

    messages, rows = data.prefixed(total)
    length = struct.Struct(">I")

    def work() -> int:
        count = at = 0
        found: list[bytes] = []
        while at < len(messages):
            (size,) = length.unpack_from(messages, at)
            at += length.size
            found.append(messages[at : at + size])
            at += size
            if len(found) == data.BATCH_BYTES // data.MESSAGE_BYTES:
                count += len(pa.array(found, pa.binary()))
                found.clear()
        return count + len(pa.array(found, pa.binary()))

    measure(len(messages), rows, work)


def frame_fixed(total: int) -> None:
    """Cut messages of 64 bytes with this project, end to end."""
    import zcrx_arrow as zc  # noqa: PLC0415 (as above)

    rows = max(1, total // data.FIXED_BYTES)
    messages = b"x" * (rows * data.FIXED_BYTES)
    framing = zc.framing.FixedSize(data.FIXED_BYTES)
    measure(
        len(messages), rows, lambda: sum(batch.num_rows for batch in zc.frame(messages, framing))
    )

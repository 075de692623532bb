# SPDX-License-Identifier: Apache-2.0
"""
From messages to typed columns.

=============  ==================================================================================
`Records`      binary messages of fixed layout, given as numpy structured dtypes
`Ndjson`       one JSON object a line
`Csv`          delimited text
`ArrowIpc`     Arrow IPC streams: every peer's batches, with its own schema
=============  ==================================================================================

Give one to `zcrx_arrow.listen` or `zcrx_arrow.connect` as ``decode=``, or use it without a network
with `zcrx_arrow.decode`.

A source has **one schema for its life**. What does not fit goes by policy, never by itself:
``on_error`` says what becomes of a row or value that cannot be read, ``on_drift`` of a peer or row
whose fields are not the schema's.

========  =====================================================================================
fail      the connection is closed, with position and reason; rows before it are delivered, other
          connections go on
null      the value becomes null (``on_error``)
widen     what fits without loss is converted: a narrower number, a missing field that may be
          null (``on_drift``); else as ``fail``
reject    the row goes to ``source.rejected``, with reason, connection and position
========  =====================================================================================

Ownership: the columns of `Records`, `Ndjson` and `Csv` are the batch's own, so the receive memory
goes back to the kernel before the batch is handed out. Those of `ArrowIpc` may lie in the receive
memory and hold it as undecoded batches do.
"""

from zcrx_arrow.decoders._base import Decoder, DecodeStats, OnDrift, OnError, Rejected
from zcrx_arrow.decoders._csv import Csv
from zcrx_arrow.decoders._ipc import ArrowIpc
from zcrx_arrow.decoders._ndjson import Ndjson
from zcrx_arrow.decoders._records import Records
from zcrx_arrow.decoders._split import Part, split

__all__ = [
    "ArrowIpc",
    "Csv",
    "DecodeStats",
    "Decoder",
    "Ndjson",
    "OnDrift",
    "OnError",
    "Part",
    "Records",
    "Rejected",
    "split",
]

# SPDX-License-Identifier: Apache-2.0
r"""
Live network bytes as Arrow record batches.

>>> import zcrx_arrow as zc
>>> with zc.listen("127.0.0.1:9000", framing=zc.framing.Delimited(b"\\n")) as source:
...     for batch in source:
...         print(batch.num_rows)
"""

from zcrx_arrow import decoders, errors, framing, nic
from zcrx_arrow.config import Area, Batching, Limits, NicQueue, Reconnect, Zcrx
from zcrx_arrow.errors import ZcrxError
from zcrx_arrow.metrics import Metrics
from zcrx_arrow.opening import connect, listen
from zcrx_arrow.probe import probe
from zcrx_arrow.replay import decode, frame
from zcrx_arrow.source import Source

__version__ = "0.1.0"

__all__ = [
    "Area",
    "Batching",
    "Limits",
    "Metrics",
    "NicQueue",
    "Reconnect",
    "Source",
    "Zcrx",
    "ZcrxError",
    "connect",
    "decode",
    "decoders",
    "errors",
    "frame",
    "framing",
    "listen",
    "nic",
    "probe",
]

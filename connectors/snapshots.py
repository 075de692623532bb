# SPDX-License-Identifier: Apache-2.0
"""A source at a moment as JSON, for a program that watches another one; and back."""

from __future__ import annotations

import base64
import dataclasses
import errno
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from zcrx_arrow.errors import ZcrxError
from zcrx_arrow.metrics import Metrics

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["PATH", "Snapshot", "as_document", "read_document"]

PATH: Final = "/top.json"
"""Where an endpoint of `openmetrics.serve_metrics` gives it."""

_KIND: Final = "zcrx-arrow top"
_VERSION: Final = 1
_OF_CONNECTION: Final = ("id", "peer", "close_reason", "bytes", "rows")
_MOST_CHUNKS: Final = 1 << 22


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What is known of a source at a moment. Immutable; holds nothing of the source."""

    name: str
    address: tuple[str, int]
    transport: str
    chunk_bytes: int
    decoded: bool
    """Whether ``metrics.rows`` are those of a decoder, and rows of connections are blocks."""
    metrics: Metrics
    connections: list[dict[str, Any]]
    """``id``, ``peer``, ``close_reason``, ``bytes``, ``rows``: open ones first, then the last ended
    ones."""
    more_connections: int
    """So many are left out."""
    area: npt.NDArray[np.uint8]
    """See `Source.area_map`."""

    @classmethod
    def of(cls, name: str, source: Any, most: int) -> Self:
        """Look at a source, and at so many of its connections."""
        # Not its times: without pandas, Python has no nanoseconds.
        rows = source.connections().select(list(_OF_CONNECTION)).to_pylist()
        rows.sort(key=lambda row: (row["close_reason"] is not None, -row["id"]))
        told = rows[:most]
        metrics: Metrics = source.metrics()
        known = {row["id"] for row in told}
        count_of = {each: n for each, n in metrics.connection_bytes.items() if each in known}
        return cls(
            name=name,
            address=tuple(source.address),
            transport=source.transport,
            chunk_bytes=source.chunk_bytes,
            decoded=getattr(source, "decoder", None) is not None,
            metrics=dataclasses.replace(metrics, connection_bytes=count_of),
            connections=told,
            more_connections=len(rows) - len(told),
            area=source.area_map(),
        )

    def as_dict(self) -> dict[str, Any]:
        """Give what JSON can write."""
        packed = base64.b64encode(zlib.compress(self.area.tobytes(), 1)).decode()
        plain = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        return plain | {"metrics": dataclasses.asdict(self.metrics), "area": packed}

    @classmethod
    def from_dict(cls, said: dict[str, Any]) -> Self:
        """Read what `as_dict` gave; a counter that the other program does not have is 0."""
        counts = {
            each.name: int(said["metrics"].get(each.name, 0))
            for each in dataclasses.fields(Metrics)
            if each.name != "connection_bytes"
        }
        by_id = {int(each): int(n) for each, n in said["metrics"]["connection_bytes"].items()}
        # Bounded, whoever wrote it.
        unpacked = zlib.decompressobj().decompress(base64.b64decode(said["area"]), _MOST_CHUNKS)
        host, port = said["address"]
        return cls(
            name=_plain(said["name"]),
            address=(_plain(host), int(port)),
            transport=_plain(said["transport"]),
            chunk_bytes=int(said["chunk_bytes"]),
            decoded=bool(said["decoded"]),
            metrics=Metrics(**counts, connection_bytes=by_id),
            connections=[_connection(row) for row in said["connections"]],
            more_connections=int(said["more_connections"]),
            area=np.frombuffer(unpacked, np.uint8),
        )


def _connection(row: dict[str, Any]) -> dict[str, Any]:
    numbers = {name: int(row[name]) for name in ("id", "bytes", "rows")}
    texts = {name: row[name] and _plain(row[name]) for name in ("peer", "close_reason")}
    return numbers | texts


def _plain(text: object) -> str:
    """Give text that moves no cursor, whoever wrote it."""
    return "".join(each if each.isprintable() else "?" for each in str(text))


def as_document(snapshots: list[Snapshot]) -> dict[str, Any]:
    """Give the document of a program with these sources."""
    return {"kind": _KIND, "version": _VERSION, "sources": [each.as_dict() for each in snapshots]}


def read_document(said: Any) -> list[Snapshot]:
    """
    Read a document.

    Raises
    ------
    ZcrxError
        EPROTO, if it is none, or one of another version.
    """
    if not isinstance(said, dict) or said.get("kind") != _KIND:
        raise ZcrxError(errno.EPROTO, "this is not what zcrx-arrow tells of sources", step="top")
    if said.get("version") != _VERSION:
        raise ZcrxError(
            errno.EPROTO,
            f"version {said.get('version')!r} of what is told of sources, and not {_VERSION}",
            step="top",
            remedy="Take the same version of zcrx-arrow for both programs.",
        )
    try:
        return [Snapshot.from_dict(each) for each in said["sources"]]
    except (AttributeError, KeyError, TypeError, ValueError, zlib.error) as error:
        raise ZcrxError(
            errno.EPROTO, f"what is told of sources cannot be read: {error!r}", step="top"
        ) from None

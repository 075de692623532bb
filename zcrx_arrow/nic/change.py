# SPDX-License-Identifier: Apache-2.0
"""One step carried out, or undone: every change is read back, since some are answered only."""

from __future__ import annotations

import contextlib
import errno
import time
from typing import TYPE_CHECKING, Any, Final

from zcrx_arrow import _events
from zcrx_arrow.errors import ZcrxError
from zcrx_arrow.nic.device import denied
from zcrx_arrow.nic.planning import table_of
from zcrx_arrow.nic.state import Match, Rule

if TYPE_CHECKING:
    from zcrx_arrow.nic.device import Device
    from zcrx_arrow.nic.planning import Step

__all__ = ["carry_out", "is_done", "undo", "wait_until_unbound"]

_UNBIND_SECONDS: Final = 5.0


def carry_out(device: Device, step: Step, steps: tuple[Step, ...]) -> None:
    """
    Carry a step out, and see that it has had an effect.

    Parameters
    ----------
    device : Device
        On it.
    step : Step
        This one.
    steps : tuple of Step
        All of the plan: a rule may belong to a context that one of them makes.

    Raises
    ------
    ZcrxError
        With the kernel's words, or that nothing has changed although it said so.
    """
    try:
        old = _numbers(device, step.setting)
        added = _change(device, step, steps)
        done = is_done(device, step, steps)
        # Not what we would know again: away with it. But never with what others have added.
        if not done and added is not None and added not in old:
            _remove(device, step.setting, added)
    except OSError as error:
        if isinstance(error, ZcrxError):
            raise
        raise denied(error, f"'{step.commands[0]}'") from error
    if not done:
        raise ZcrxError(
            errno.EIO,
            f"'{step.commands[0]}' had no effect on {device.name}, although the kernel said so",
            step="nic",
            remedy="The driver does not do it; its log ('dmesg') may say why.",
        )


def _change(device: Device, step: Step, steps: tuple[Step, ...]) -> int | None:
    """Give the number of what was added, if something was."""
    after = step.after
    if step.setting == "context":
        if not _contexts(device, step):
            return device.create_context(table_of(_entries(device), after))
    elif step.setting == "rule":
        if not _rules(device, step, steps):
            context = _context_of(device, step, steps)
            return device.insert_rule(Match(**after["match"]), after["queue"], context)
    else:
        _set(device, step.setting, after)
    return None


def _numbers(device: Device, setting: str) -> set[int]:
    if setting == "context":
        return {context.context for context in device.contexts()}
    if setting == "rule":
        return {rule.location for rule in device.rules()}
    return set()


def _remove(device: Device, setting: str, number: int) -> None:
    """Remove what was added, if it is there: a driver may only have said so."""
    with contextlib.suppress(OSError):
        if setting == "context":
            device.delete_context(number)
        else:
            device.delete_rule(number)


def _entries(device: Device) -> int:
    return len(device.rss().table)


def _set(device: Device, setting: str, values: dict[str, Any]) -> None:
    match setting:
        case "channels":
            device.set_channels(**values)
        case "feature":
            for name, on in values.items():
                device.set_feature(name, on=on)
        case "rings":
            device.set_rings(split=values["split"], hds_thresh=values.get("hds_thresh"))
        case "rss":
            device.set_rss(table_of(_entries(device), values))
        case _:
            raise AssertionError(setting)


def is_done(device: Device, step: Step, steps: tuple[Step, ...]) -> bool:
    """Whether what a step wants is so; raises `OSError` if it cannot be read."""
    return _is_so(device, step, steps, step.after)


def _is_so(device: Device, step: Step, steps: tuple[Step, ...], values: dict[str, Any]) -> bool:
    match step.setting:
        case "channels":
            channels = device.channels()
            return all(getattr(channels, kind) == count for kind, count in values.items())
        case "feature":
            active = device.features().active
            return all((name in active) == on for name, on in values.items())
        case "rings":
            rings = device.rings()
            # "auto" is read back as what the driver has chosen.
            split = values["split"] in ("auto", rings.tcp_data_split)
            return split and values.get("hds_thresh") in (None, rings.hds_thresh)
        case "rss":
            table, wanted = device.rss().table, table_of(_entries(device), values)
            return not wanted or table == wanted
        case "context":
            return bool(_contexts(device, step))
        case "rule":
            return bool(_rules(device, step, steps))
        case _:
            raise AssertionError(step.setting)


def undo(device: Device, step: Step, steps: tuple[Step, ...]) -> None:
    """
    Bring a setting back to what it was; harmless if it is so already, or was never changed.

    Raises
    ------
    ZcrxError
        With the kernel's words, or that nothing has changed although it said so.
    """
    try:
        _bring_back(device, step, steps)
    except OSError as error:
        if isinstance(error, ZcrxError):
            raise
        raise denied(error, f"setting {step.setting} of {device.name} back") from error


def _bring_back(device: Device, step: Step, steps: tuple[Step, ...]) -> None:
    before = step.before
    if step.setting == "rule":
        for rule in _rules(device, step, steps):
            device.delete_rule(rule.location)
        return
    if step.setting == "context":
        for context in _contexts(device, step):
            device.delete_context(context)
        return
    if step.setting == "feature" and _still_needed(device, before):
        return
    always = step.setting == "rss" and not before["table"]  # a default cannot be told from its like
    always |= step.setting == "rings" and before["split"] == "auto"
    if not always and _is_so(device, step, steps, before):
        return
    _set(device, step.setting, before)
    if not _is_so(device, step, steps, before):
        raise ZcrxError(
            errno.EIO, f"{step.setting} of {device.name} did not change back", step="nic"
        )


def _still_needed(device: Device, before: dict[str, Any]) -> bool:
    """Whether others have added rules meanwhile, which many drivers forget with the feature."""
    if before.get("rx-ntuple-filter", True) or not device.rules():
        return False
    _events.warning(
        "nic_feature_kept",
        device.name,
        "rx-ntuple-filter stays on, since there are other rules",
        feature="rx-ntuple-filter",
    )
    return True


# --- what was added is recognised by what it is, since a crash may have kept its number from us ---


def _contexts(device: Device, step: Step) -> list[int]:
    """Contexts that were not there before and have the table of this step."""
    table = table_of(_entries(device), step.after)
    old = step.before["contexts"]
    return [
        each.context
        for each in device.contexts()
        if each.context not in old and each.table == table
    ]


def _context_of(device: Device, rule: Step, steps: tuple[Step, ...]) -> int | None:
    if not rule.after["shared"]:
        return None
    (step,) = (each for each in steps if each.setting == "context")
    found = _contexts(device, step)
    if not found:
        raise ZcrxError(errno.ENOENT, f"the RSS context of {device.name} is gone", step="nic")
    return found[0]


def _rules(device: Device, step: Step, steps: tuple[Step, ...]) -> list[Rule]:
    """Rules that do what this step wants: no plan is made if there is one already."""
    after = step.after
    match = Match(**after["match"])
    contexts: list[int | None] = [None]
    if after["shared"]:
        contexts = [
            context
            for each in steps
            if each.setting == "context"
            for context in _contexts(device, each)
        ]
    return [
        rule
        for rule in device.rules()
        if rule.match == match and rule.queue == after["queue"] and rule.context in contexts
    ]


def wait_until_unbound(device: Device, queues: tuple[int, ...]) -> None:
    """
    Wait for the kernel to let go of queues, at most 5 s.

    Raises
    ------
    ZcrxError
        EBUSY: something still uses one; nothing may be set back before.
    """
    deadline = time.monotonic() + _UNBIND_SECONDS
    while True:
        try:
            held = [q for q in device.queues() if q.number in queues and q.holder]
        except OSError:
            return  # a kernel that does not tell
        if not held:
            return
        if time.monotonic() >= deadline:
            from zcrx_arrow.nic.preflight import ring_owners  # noqa: PLC0415 - a cycle otherwise

            owners = ", ".join(ring_owners())
            raise ZcrxError(
                errno.EBUSY,
                f"queue {held[0].number} of {device.name} is still held by {held[0].holder}",
                step="nic",
                remedy="Close the source, or end its process first"
                + (f"; processes with an io_uring: {owners}." if owners else "."),
            )
        time.sleep(0.05)

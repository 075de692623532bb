# SPDX-License-Identifier: Apache-2.0
"""
What an interface was like before.

Written down before the first change, removed after the last undo, so that a crash in between loses
nothing. A file for an interface of a network namespace, in /run/zcrx-arrow or, for others than
root, $XDG_RUNTIME_DIR/zcrx-arrow: settings of a NIC do not outlive a reboot, and neither do these.
A lock beside it is held while something is changed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from zcrx_arrow.errors import ZcrxError
from zcrx_arrow.nic.planning import Plan, Request, Step

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Journal", "Record"]

_FORMAT: Final = 1
_LOCK_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Record:
    """
    What has been, or is being, changed.

    Attributes
    ----------
    interface, index, driver : str, int, str
        Of which interface.
    boot : str
        Of which boot: others' settings are gone.
    owner : str or None
        The process that will undo it, as ``"pid start-time"``; None: nobody in particular.
    request, queues, steps : Request, tuple of int, tuple of Step
        What was asked for, and what it took.
    """

    interface: str
    index: int
    driver: str
    boot: str
    owner: str | None
    request: Request
    queues: tuple[int, ...]
    steps: tuple[Step, ...]

    @classmethod
    def of(cls, plan: Plan, index: int, *, owned: bool) -> Record:
        """Make the record of a plan that is about to be carried out."""
        owner = process_mark(os.getpid()) if owned else None
        return cls(
            plan.interface,
            index,
            plan.driver,
            boot_id(),
            owner,
            plan.request,
            plan.queues,
            plan.steps,
        )

    @property
    def owner_lives(self) -> bool:
        """Whether the process that made it is still there."""
        return self.owner is not None and process_mark(int(self.owner.split()[0])) == self.owner

    @property
    def mine(self) -> bool:
        """Whether this process made it."""
        return self.owner == process_mark(os.getpid())


class Journal:
    """
    The file for one interface.

    Parameters
    ----------
    interface : str
        In the network namespace of this process.
    path : str or Path, optional
        Another place for the file.
    """

    def __init__(self, interface: str, path: str | os.PathLike[str] | None = None) -> None:
        self.interface = interface
        self.path = Path(path) if path is not None else _folder() / _file_name(interface)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """
        Keep other processes from changing the interface; waits 10 s for them.

        Raises
        ------
        ZcrxError
            EBUSY if one takes longer; EACCES if the file cannot be written.
        """
        lock = self.path.with_name(self.path.name + ".lock")
        try:
            self.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            self._lock(handle)
            yield
        finally:
            os.close(handle)

    def _lock(self, handle: int) -> None:
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise ZcrxError(
                        errno.EBUSY,
                        f"another process is changing {self.interface}",
                        step="nic",
                        remedy=f"'fuser {self.path}.lock' says which.",
                    ) from None
                time.sleep(0.02)
            else:
                return

    def read(self) -> Record | None:
        """
        Read the record; None if there is none, or if a reboot has made it void.

        Raises
        ------
        ZcrxError
            If the file is not one of ours.
        """
        try:
            values = json.loads(self.path.read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise self._unreadable(str(error)) from error
        try:
            if values["format"] != _FORMAT:
                raise self._unreadable(f"format {values['format']}")
            record = Record(
                interface=values["interface"],
                index=values["index"],
                driver=values["driver"],
                boot=values["boot"],
                owner=values["owner"],
                request=Request.from_json(values["request"]),
                queues=tuple(values["queues"]),
                steps=tuple(_step(step) for step in values["steps"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise self._unreadable(f"{type(error).__name__}: {error}") from error
        if record.boot != boot_id():
            self.remove()
            return None
        return record

    def write(self, record: Record) -> None:
        """Write it so that it is there whole or not at all, also after a crash."""
        values: dict[str, Any] = {
            "format": _FORMAT,
            "interface": record.interface,
            "index": record.index,
            "driver": record.driver,
            "boot": record.boot,
            "owner": record.owner,
            "request": record.request.to_json(),
            "queues": list(record.queues),
            "steps": [step.to_json() for step in record.steps],
        }
        try:
            handle, part = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
            with os.fdopen(handle, "w") as stream:
                json.dump(values, stream, indent=1)
                stream.flush()
                os.fsync(stream.fileno())
            Path(part).rename(self.path)
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_CLOEXEC)
            os.fsync(folder)
            os.close(folder)
        except OSError as error:
            raise self._unwritable(error) from error

    def remove(self) -> None:
        """Forget it."""
        self.path.unlink(missing_ok=True)

    def _unwritable(self, error: OSError) -> ZcrxError:
        return ZcrxError(
            error.errno or errno.EIO,
            f"the state of {self.interface} cannot be written to {self.path}: {error.strerror}",
            step="nic",
            remedy="Give another place with state= or --state; nothing has been changed.",
        )

    def _unreadable(self, why: str) -> ZcrxError:
        return ZcrxError(
            errno.EINVAL,
            f"{self.path} is no state of an interface ({why})",
            step="nic",
            remedy="Look at the interface with 'zcrx-arrow nic show', set it back by hand if need "
            "be, and remove the file.",
        )


def _step(values: dict[str, Any]) -> Step:
    return Step(
        setting=str(values["setting"]),
        before=dict(values["before"]),
        after=dict(values["after"]),
        why=str(values["why"]),
        commands=tuple(values["commands"]),
        undo=tuple(values["undo"]),
    )


def _folder() -> Path:
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if os.geteuid() != 0 and runtime:
        return Path(runtime) / "zcrx-arrow"
    return Path("/run/zcrx-arrow")


def _file_name(interface: str) -> str:
    """Name a file; names of interfaces are unique in a network namespace only."""
    return f"{interface}@{Path('/proc/thread-self/ns/net').stat().st_ino}.json"


def boot_id() -> str:
    """Identify this boot (random(4))."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def process_mark(pid: int) -> str:
    """Identify a process: its number, and when it was started (field 22 of proc_pid_stat(5))."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return f"{pid} -"
    return f"{pid} {stat.rpartition(')')[2].split()[19]}"

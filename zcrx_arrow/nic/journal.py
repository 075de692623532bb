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
import socket
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from zcrx_arrow.errors import ZcrxError
from zcrx_arrow.nic.planning import SETTINGS, Plan, Request, Step

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
        The process that will undo it, see `process_mark`; None: nobody in particular.
    token : str
        Tells this record from every other.
    request, queues, steps : Request, tuple of int, tuple of Step
        What was asked for, and what it took.
    """

    interface: str
    index: int
    driver: str
    boot: str
    owner: str | None
    token: str
    request: Request
    queues: tuple[int, ...]
    steps: tuple[Step, ...]

    @classmethod
    def of(cls, plan: Plan, index: int, *, owned: bool, token: str = "") -> Record:
        """Make the record of a plan that is about to be carried out."""
        owner = process_mark(os.getpid()) if owned else None
        return cls(
            interface=plan.interface,
            index=index,
            driver=plan.driver,
            boot=boot_id(),
            owner=owner,
            token=token,
            request=plan.request,
            queues=plan.queues,
            steps=plan.steps,
        )

    @property
    def owner_lives(self) -> bool:
        """Whether the process that made it is still there; one of other PIDs than ours may be."""
        if self.owner is None:
            return False
        pid, _, pids = self.owner.split()
        return pids != _pid_namespace() or process_mark(int(pid)) == self.owner

    @property
    def who(self) -> str:
        """Who made it, for people."""
        return f"process {self.owner.split()[0]}" if self.owner else "'zcrx-arrow nic apply'"


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
        self.path = Path(path) if path is not None else _usual_place(_file_name(interface))

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
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            handle = os.open(lock, flags, 0o600)
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
            values = json.loads(self._text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            if isinstance(error, ZcrxError):
                raise
            raise self._unreadable(str(error)) from error
        try:
            if values["format"] != _FORMAT:
                raise self._unreadable(f"format {values['format']}")
            record = Record(
                interface=values["interface"],
                index=values["index"],
                driver=values["driver"],
                boot=values["boot"],
                owner=_owner(values["owner"]),
                token=str(values["token"]),
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

    def _text(self) -> str:
        """Read the file; what others than root or this user have written is not obeyed."""
        handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        with os.fdopen(handle) as stream:
            if os.fstat(handle).st_uid not in (0, os.geteuid()):
                raise self._unreadable("it belongs to another user")
            return stream.read()

    def write(self, record: Record) -> None:
        """Write it so that it is there whole or not at all, also after a crash."""
        values: dict[str, Any] = {
            "format": _FORMAT,
            "interface": record.interface,
            "index": record.index,
            "driver": record.driver,
            "boot": record.boot,
            "owner": record.owner,
            "token": record.token,
            "request": record.request.to_json(),
            "queues": list(record.queues),
            "steps": [step.to_json() for step in record.steps],
        }
        try:
            handle, part = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
            with os.fdopen(handle, "w") as stream:
                os.fchmod(stream.fileno(), 0o644)  # whoever looks may know
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
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise self._unwritable(error) from error

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


def _owner(text: str | None) -> str | None:
    if text is not None:
        pid, _, _ = text.split()
        int(pid)
    return text


def _step(values: dict[str, Any]) -> Step:
    if values["setting"] not in SETTINGS:
        raise ValueError(values["setting"])
    return Step(
        setting=str(values["setting"]),
        before=dict(values["before"]),
        after=dict(values["after"]),
        why=str(values["why"]),
        commands=tuple(values["commands"]),
        undo=tuple(values["undo"]),
    )


def _usual_place(name: str) -> Path:
    """Where the file is, if root has written it, or else where this user may write it."""
    common = Path("/run/zcrx-arrow") / name
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if os.geteuid() != 0 and runtime and not common.exists():
        return Path(runtime) / "zcrx-arrow" / name
    return common


def _file_name(interface: str) -> str:
    """Name a file; names of interfaces are unique in a network namespace only."""
    with contextlib.suppress(OSError, ValueError):  # it may have several
        interface = socket.if_indextoname(socket.if_nametoindex(interface))
    return f"{interface}@{Path('/proc/thread-self/ns/net').stat().st_ino}.json"


def boot_id() -> str:
    """Identify this boot (random(4))."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def process_mark(pid: int) -> str:
    """
    Identify a process: its number, when it was started, and among whose numbers.

    Fields 3 and 22 of proc_pid_stat(5), and pid_namespaces(7). One that has ended has no start.
    """
    start = "-"
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        if fields[0] not in "ZX":
            start = fields[19]
    return f"{pid} {start} {_pid_namespace()}"


def _pid_namespace() -> str:
    return str(Path("/proc/self/ns/pid").stat().st_ino)

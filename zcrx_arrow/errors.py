# SPDX-License-Identifier: Apache-2.0
"""What can go wrong, with what to do about it."""

from __future__ import annotations

import copy
import errno
import os
from typing import Any, Final, Self

__all__ = [
    "AreaExhaustedError",
    "ConfigError",
    "ForkedError",
    "FramingError",
    "UnsupportedError",
    "ZcrxError",
]


class ZcrxError(OSError):
    """
    An operation failed.

    Attributes
    ----------
    errno : int
        The kernel's error number, or the closest one.
    step : str
        What was being done, such as ``"io_uring_setup"``.
    remedy : str
        What to do about it; ``""`` if there is nothing to say.
    """

    def __init__(self, code: int, cause: str, *, step: str = "", remedy: str = "") -> None:
        super().__init__(code, cause)
        self.step = step
        self.remedy = remedy

    def again(self) -> Self:
        """
        Make another one that says the same.

        To be raised later or elsewhere: an error that is kept and raised keeps with its traceback
        everything that its frames know.
        """
        made = copy.copy(self)
        made.__traceback__ = None
        return made

    def __reduce__(self) -> Any:
        """Say how to copy it."""
        return _remake, (type(self), self.errno, self.strerror, self.step, self.remedy)

    def __str__(self) -> str:
        """Give cause, step and the kernel's words, and the remedy on a line of its own."""
        text = self.strerror or ""
        where = f"{self.step}: " if self.step else ""
        number = errno.errorcode.get(self.errno or 0)
        words = f" [{number}: {os.strerror(self.errno or 0)}]" if number else ""
        remedy = f"\n{self.remedy}" if self.remedy else ""
        return f"{where}{text}{words}{remedy}"


def _remake(kind: type[ZcrxError], code: int, cause: str, step: str, remedy: str) -> ZcrxError:
    """Make an error of any kind from what all of them have."""
    error = kind.__new__(kind, code, cause)
    ZcrxError.__init__(error, code, cause, step=step, remedy=remedy)
    return error


class UnsupportedError(ZcrxError):
    """What is needed is not offered by this kernel, container or machine."""


class AreaExhaustedError(ZcrxError):
    """Every chunk of the area is held by batches, and copying out is forbidden."""


class FramingError(ZcrxError, ValueError):
    """Bytes do not follow the framing."""


class ConfigError(ZcrxError, ValueError):
    """An option has a value that cannot work; the message names the option."""

    def __init__(self, cause: str, *, step: str = "config", remedy: str = "") -> None:
        super().__init__(errno.EINVAL, cause, step=step, remedy=remedy)

    def __str__(self) -> str:
        """Give the cause alone: an option's value has no kernel's words."""
        remedy = f"\n{self.remedy}" if self.remedy else ""
        return f"{self.strerror}{remedy}"


class ForkedError(ZcrxError):
    """A source was used in a forked child of the process that opened it."""

    def __init__(self, owner: int) -> None:
        super().__init__(
            errno.EOWNERDEAD,
            f"this source belongs to process {owner}; its receiver thread does not exist here",
            step="fork",
            remedy="Open a source in the child, or start workers with the 'spawn' method.",
        )


_REMEDIES: Final = {
    ("io_uring_setup", errno.EPERM): (
        "io_uring is switched off for this process. Look at 'sysctl kernel.io_uring_disabled' (0 "
        "allows everybody, 1 only CAP_SYS_ADMIN or the group of kernel.io_uring_group); in a "
        "container, its seccomp profile must allow io_uring_setup, io_uring_enter and "
        "io_uring_register (Docker: --security-opt seccomp=profile.json)."
    ),
    ("io_uring_setup", errno.EACCES): (
        "A security module forbids io_uring to this process; ask its policy for io_uring."
    ),
    ("io_uring_setup", errno.ENOSYS): (
        "This kernel has no io_uring, or a seccomp profile hides it. Linux 6.0 or newer with "
        "CONFIG_IO_URING is needed; in a container, its seccomp profile must allow "
        "io_uring_setup, io_uring_enter and io_uring_register."
    ),
    ("io_uring_setup", errno.EINVAL): "Linux 6.0 or newer is needed.",
    ("io_uring_setup", errno.ENOMEM): (
        "The ring counts as locked memory: raise RLIMIT_MEMLOCK ('ulimit -l', LimitMEMLOCK= of a "
        "systemd unit) to 1 MiB or more, or give the process CAP_IPC_LOCK."
    ),
    ("io_uring_register", errno.ENOMEM): (
        "The buffer ring counts as locked memory: raise RLIMIT_MEMLOCK ('ulimit -l', "
        "LimitMEMLOCK= of a systemd unit) to 1 MiB or more, or give the process CAP_IPC_LOCK."
    ),
    ("io_uring_register", errno.EINVAL): "Linux 6.0 or newer is needed.",
    ("zcrx", errno.EPERM): (
        "Run it as root, or give it CAP_NET_ADMIN: setcap, or AmbientCapabilities= of a systemd "
        "unit."
    ),
    ("zcrx", errno.EINVAL): (
        "Set both: 'ethtool -G INTERFACE tcp-data-split on hds-thresh 0', even if they seem to be "
        "set; and see that the kernel has zero-copy receive (Linux 6.15, CONFIG_IO_URING_ZCRX)."
    ),
    ("zcrx", errno.EOPNOTSUPP): (
        "Drivers that can, in Linux 7.3: bnxt_en, fbnic, gve, mlx5_core. transport='copy' works "
        "with every one."
    ),
    ("zcrx", errno.ERANGE): "'ethtool -l INTERFACE' tells how many queues there are.",
    ("zcrx", errno.EEXIST): (
        "The kernel lets go of a queue a moment after its last user has ended; see "
        "zcrx.bind_timeout. 'ip -d link show INTERFACE' shows XDP programs."
    ),
    ("zcrx", errno.EBUSY): "End the AF_XDP program on that queue, or take another one.",
    ("zcrx", errno.ENOMEM): (
        "Raise RLIMIT_MEMLOCK ('ulimit -l', LimitMEMLOCK= of a systemd unit) above the size of the "
        "area, give the process CAP_IPC_LOCK, or ask for a smaller area."
    ),
    ("huge pages", errno.ENOMEM): (
        "Reserve huge pages: 'sysctl vm.nr_hugepages=N', best soon after boot; or leave "
        "area.huge_pages off."
    ),
    ("area", errno.ENOMEM): "Ask for a smaller area, or raise the memory limit of the process.",
    ("area", errno.ENOBUFS): ('Release batches, use copy_out="auto", or ask for a larger area.'),
    ("io_uring_setup", errno.EMFILE): "Raise 'ulimit -n'.",
    ("eventfd", errno.EMFILE): "Raise 'ulimit -n'.",
}
_UNSUPPORTED: Final = {errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP}


def from_core(code: int, step: str, detail: str) -> ZcrxError:
    """
    Make the exception for an error of the core.

    Parameters
    ----------
    code : int
        -errno.
    step, detail : str
        ``struct za_error``.
    """
    number = -code
    if step == "config":
        return ConfigError(detail)
    remedy = _REMEDIES.get((step, number), "")
    kind: type[ZcrxError] = ZcrxError
    if (step.startswith("io_uring") or step == "zcrx") and number in _UNSUPPORTED:
        kind = UnsupportedError
    elif number == errno.ENOBUFS:
        kind = AreaExhaustedError
    return kind(number, detail, step=step, remedy=remedy)

# SPDX-License-Identifier: Apache-2.0
"""What this kernel can do, by asking it and by trying; never by its version."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass

from zcrx_arrow._native import ffi, lib

__all__ = ["Features", "probe"]

_REG_NODEV = 1 << 1  # ZCRX_REG_NODEV
_RX_PAGE_SIZE = 1 << 0  # ZCRX_FEATURE_RX_PAGE_SIZE
_EVENT = 1 << 1  # ZCRX_FEATURE_EVENT
_FLUSH_RQ = 0  # ZCRX_CTRL_FLUSH_RQ


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """
    What `probe` has found.

    Error fields are None if the trial succeeded, else the name of an errno such as ``"EPERM"``.
    The others are what the kernel says of itself (IORING_REGISTER_QUERY, Linux 6.18); older ones
    say nothing, which is not the same as not being able to.
    """

    io_uring: str | None
    """Why no io_uring can be set up."""
    zcrx_ring: str | None
    """Why none can be set up as zero-copy receive needs it (DEFER_TASKRUN, CQE32)."""
    zcrx: str | None
    """Why no area can be registered with an interface's queue."""
    nodev: str | None
    """Why none can be registered without an interface."""
    answers_queries: bool
    knows_nodev: bool
    chunk_sizes: bool
    """Chunks larger than a page (``rx_buf_len``, Linux 7.0)."""
    events: bool
    """Tells when it copies, and when the NIC finds no chunk (Linux 7.2)."""
    flush: bool
    """Takes fragments back when told to (FLUSH_RQ, Linux 6.19)."""


def _name(code: int) -> str | None:
    return None if code == 0 else errno.errorcode.get(-code, os.strerror(-code))


def probe() -> Features:
    """
    Find out what this kernel, and the privileges of this process, allow.

    Sets up a few small rings for a moment; may be called from any thread.

    Returns
    -------
    Features
    """
    core = ffi.new("struct za_features *")
    lib.za_probe(ffi.NULL, core)
    return Features(
        io_uring=_name(core.ring),
        zcrx_ring=_name(core.zcrx_ring),
        zcrx=_name(core.zcrx),
        nodev=_name(core.nodev),
        answers_queries=core.query == 0,
        knows_nodev=bool(core.zcrx_register_flags & _REG_NODEV),
        chunk_sizes=bool(core.zcrx_features & _RX_PAGE_SIZE),
        events=bool(core.zcrx_features & _EVENT),
        flush=core.zcrx_ctrl_opcodes > _FLUSH_RQ,
    )

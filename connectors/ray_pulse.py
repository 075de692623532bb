# SPDX-License-Identifier: Apache-2.0
"""
Whether an actor still answers.

Ray notices processes that end and nodes that do not answer, but not a process that hangs: stopped,
swapped out, or in a call that never returns and keeps the GIL.
"""

from __future__ import annotations

import time
from typing import Any, Final

import ray

__all__ = ["ENDS_S", "Pulse"]

ENDS_S: Final = 6.0
"""How long a process that hangs, and has its address, may outlive being killed: Ray asks it first,
and waits ``kill_worker_timeout_milliseconds``, 5 s."""
_STEP_S: Final = 1.0
_SHARE: Final = 0.25


class Pulse:
    """
    Asks an actor for an answer now and then; one question is under way.

    Only the time in which somebody looks counts: a driver that was busy, or stopped itself, has no
    answers either. Not thread-safe.

    Parameters
    ----------
    actor : ActorHandle
        With a method ``beat`` that answers whatever else it does.
    timeout : float
        Seconds without an answer from which on it is taken to hang.
    """

    def __init__(self, actor: Any, timeout: float) -> None:
        self._actor, self._timeout = actor, timeout
        self._step = min(_STEP_S, timeout * _SHARE)
        self._silent = 0.0
        self._looked = time.monotonic()
        self._asked = actor.beat.remote()

    def hangs(self, now: float) -> bool:
        """Look whether it has not answered for too long; to be asked often, costs little."""
        passed = now - self._looked
        if passed >= self._step:
            self._looked = now
            if ray.wait([self._asked], timeout=0, fetch_local=False)[0]:
                self._silent = 0.0
                self._asked = self._actor.beat.remote()
            else:
                self._silent += min(passed, self._timeout * _SHARE)
        return self._silent >= self._timeout

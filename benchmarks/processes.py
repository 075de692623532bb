# SPDX-License-Identifier: Apache-2.0
"""Child processes that say one JSON object per line.

A receiver prints ``{"port": ...}`` when a sender may come and its sample at the end; a sender
prints its own sample at the end. Whatever fails in a child fails the run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from typing import IO, TYPE_CHECKING, Any, Self

from benchmarks import binaries

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

TIMEOUT_SECONDS = 300.0

# numpy, which pyarrow imports where it is installed, brings a pool of threads that spin for a while
# after they have started: 30 ms and more of CPU time that no receiver has used.
QUIET = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}

Message = dict[str, Any]


class ChildError(RuntimeError):
    """A child of the benchmark failed; the message holds what it wrote to standard error."""


class Child:
    """A running child; a context manager that leaves no process behind."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        self._errors: IO[bytes] = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=binaries.ROOT,
            env=os.environ | QUIET,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            if pipe is not None:
                pipe.close()
        self._process.wait()

    def read(self) -> Message:
        """Read the next object that the child prints."""
        if self._process.stdout is None:
            raise self._failed()
        line = self._process.stdout.readline()
        if not line:
            self._process.wait(TIMEOUT_SECONDS)
            raise self._failed()
        message: Message = json.loads(line)
        return message

    def tell(self) -> None:
        """Give the child the signal it waits for: the end of its standard input."""
        if self._process.stdin is not None:
            self._process.stdin.close()

    def finish(self) -> Message:
        """Read the child's sample and wait for its successful end."""
        message = self.read()
        if self._process.wait(TIMEOUT_SECONDS):
            raise self._failed()
        return message

    def _failed(self) -> ChildError:
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip()
        code = self._process.returncode
        return ChildError(f"{' '.join(self._command)}: exit status {code}\n{said}")


def native(name: str, cpu: int | None, *arguments: object) -> Child:
    """Start a C program of the benchmarks, pinned to a CPU unless that is None."""
    place = "-" if cpu is None else str(cpu)
    return Child([str(binaries.build(name)), place, *map(str, arguments)])


def python(module: str, **parameters: object) -> Child:
    """Start a Python module of the benchmarks with its parameters as JSON."""
    return Child([sys.executable, "-m", f"benchmarks.{module}", json.dumps(parameters)])

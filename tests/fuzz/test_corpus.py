# SPDX-License-Identifier: Apache-2.0
"""Every input that the fuzzers know, once. `python -m tests.fuzz` looks for more."""

from __future__ import annotations

import pytest

from tests.fuzz.harness import TARGETS


@pytest.mark.parametrize("target", TARGETS)
def test_corpus(run_python, target):
    """In a process of its own: what is looked for is that which ends one."""
    done = run_python(
        f"""
        import sys, logging
        from tests.fuzz.harness import replay
        logging.disable()
        sys.exit(replay({target!r}, []))
        """,
        code=None,
    )
    assert done.returncode == 0, f"{done.returncode}\n{done.stdout}\n{done.stderr}"

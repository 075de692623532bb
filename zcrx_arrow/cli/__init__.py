# SPDX-License-Identifier: Apache-2.0
"""The command ``zcrx-arrow``."""

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line."""
    try:
        from zcrx_arrow.cli.app import app  # noqa: PLC0415 - its packages are an extra
    except ModuleNotFoundError as error:
        sys.exit(f"zcrx-arrow: {error.name} is missing; pip install 'zcrx-arrow[cli]'")
    app()

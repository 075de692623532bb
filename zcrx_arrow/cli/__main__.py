# SPDX-License-Identifier: Apache-2.0
"""``python -m zcrx_arrow.cli``."""

from zcrx_arrow.cli import main

main()

# SPDX-License-Identifier: Apache-2.0
"""What is in guest/ runs in the virtual machine only, where vm.py says so."""

import os

IN_GUEST = bool(os.environ.get("ZCRX_ARROW_GUEST"))
collect_ignore = [] if IN_GUEST else ["guest"]

# SPDX-License-Identifier: Apache-2.0
"""Make cffi's cdef from the public header, so that there is one text to keep and not two."""

import re
import sys
from pathlib import Path

*headers, output = map(Path, sys.argv[1:])
text = "".join(header.read_text() for header in headers)
text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)  # their contents may look like code
text = "\n".join(line for line in text.splitlines() if line and not line.startswith("#"))
output.write_text(text + "\n")

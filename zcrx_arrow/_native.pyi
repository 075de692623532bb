# The cffi module: `lib` has the functions and constants of native/za.h, `ffi` makes its structures.
from typing import Any

ffi: Any
lib: Any

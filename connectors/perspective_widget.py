# SPDX-License-Identifier: Apache-2.0
"""
Perspective's notebook widget, as many times on a page as one likes.

Needs ``zcrx-arrow[notebooks]``. The widget of Perspective 5.6 brings its program once for each
widget, and the second fails, since both define the same elements: "the name has already been used
with this registry". Running a cell again is enough for that. Here the first widget of a page loads
the program, and the others share it. Nothing is loaded from elsewhere.
"""

from __future__ import annotations

import json
from typing import Any, Final

try:
    import perspective  # type: ignore[import-not-found,import-untyped,unused-ignore]
    from perspective.widget import (  # type: ignore[import-not-found,import-untyped,unused-ignore]
        PerspectiveWidget,
    )
except ImportError as error:  # pragma: no cover - said to the user
    raise ImportError(
        "this connector needs Perspective and anywidget: pip install 'zcrx-arrow[notebooks]'"
    ) from error

__all__ = ["SharedWidget"]

_SHARED: Final = """\
const key = Symbol.for(%(name)s);
if (!globalThis[key]) {
  const program = new Blob([%(program)s], { type: "text/javascript" });
  const url = URL.createObjectURL(program);
  globalThis[key] = import(url).catch((error) => {
    delete globalThis[key];
    throw error;
  });
}
export default (await globalThis[key]).default;
"""


def _shared(program: str) -> str:
    name = f"zcrx-arrow perspective {perspective.__version__}"
    return _SHARED % {"name": json.dumps(name), "program": json.dumps(program)}


class SharedWidget(PerspectiveWidget):  # type: ignore[misc,unused-ignore]
    """
    A ``PerspectiveWidget`` that others may stand beside.

    Parameters
    ----------
    data : perspective.Table
        What is shown; see `perspective_view.table`.
    height : str
        Of the widget, as in CSS.
    **options
        Of the viewer: ``plugin``, ``columns``, ``sort``, ``group_by``, ``split_by``, ...
    """

    _esm = _shared(str(PerspectiveWidget._esm))  # noqa: SLF001 - what it consists of

    def __init__(self, data: Any, *, height: str = "520px", **options: Any) -> None:
        super().__init__(data, **options)
        self.layout.height = height

    def __repr__(self) -> str:
        """Say what it is, to those who cannot see it."""
        return "<a live Perspective view: run this in JupyterLab>"

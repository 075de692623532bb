# SPDX-License-Identifier: Apache-2.0
"""``--to rolling:DIR``: files that roll."""

from typing import Any, Final

import pyarrow as pa

import zcrx_arrow as zc
from zcrx_arrow.cli.spec import Spec, naming
from zcrx_arrow.connectors.rolling_options import Roll, RollBy
from zcrx_arrow.connectors.rolling_sink import RollingSink
from zcrx_arrow.replay import Replay

__all__ = ["open_folder"]

_ROLL: Final = "64 MiB"


def open_folder(
    target: str, schema: pa.Schema | None, source: zc.Source | Replay
) -> RollingSink | None:
    """
    Open the sink that ``rolling:DIR[,roll=SIZE|TIME]...[,rows=N][,format=F][,prefix=P]`` names.

    Returns
    -------
    RollingSink or None
        None if the text names something else.

    Raises
    ------
    ConfigError
        If it cannot be understood.
    ZcrxError, OSError
        If the folder is being written to by somebody else, or cannot be.
    """
    spec = Spec("--to", target)
    if spec.kind != "rolling":
        return None
    if not spec.value:
        raise spec.error("name a folder: rolling:DIR")
    limits, rows = spec.all("roll"), spec.number("rows")
    kind: Any = spec.get("format") or "parquet"  # looked at by `Roll`
    prefix = spec.get("prefix") or "feed"
    spec.done(value=True)
    by: RollBy = tuple(limits) if limits or rows is not None else _ROLL
    with naming("--to", target):
        roll = Roll.of(by, rows, kind, prefix)
        return RollingSink(spec.value, schema, roll, source)

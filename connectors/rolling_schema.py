# SPDX-License-Identifier: Apache-2.0
"""Whether a schema can be written, and a batch has it."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from zcrx_arrow.errors import ConfigError, UnsupportedError, ZcrxError

if TYPE_CHECKING:
    from zcrx_arrow.connectors.rolling_options import Roll
    from zcrx_arrow.connectors.rolling_positions import Position

__all__ = ["check_same", "check_schema"]


def check_schema(schema: pa.Schema, roll: Roll, start: Position | None) -> None:
    """
    See that the format has every type, and `start` what it needs.

    Raises
    ------
    ConfigError, UnsupportedError
        If not.
    """
    if start is not None and not {"connection", "position"} <= set(schema.names):
        raise ConfigError(
            "start= needs to know where rows are from",
            remedy="With a decoder: keep=['connection', 'position'].",
        )
    if roll.format == "ipc":
        return
    for field in schema:
        one = pa.schema([field])
        try:
            with pq.ParquetWriter(pa.BufferOutputStream(), one) as writer:
                writer.write_table(one.empty_table())
        except (pa.ArrowException, NotImplementedError) as error:
            raise UnsupportedError(
                errno.ENOTSUP,
                f"Parquet has no type for column {field.name!r} of type {field.type}: {error}",
                step="write",
                remedy="Take format='ipc', or decode it to another type.",
            ) from None


def check_same(schema: pa.Schema, batch: pa.RecordBatch) -> None:
    """See that a batch has the schema of all; raises `ZcrxError` if not."""
    if not batch.schema.equals(schema):
        raise ZcrxError(
            errno.EINVAL,
            f"a batch has another schema than the first: {_difference(schema, batch)}",
            step="write",
            remedy="Write feeds of different schemas to different folders.",
        )


def _difference(schema: pa.Schema, batch: pa.RecordBatch) -> str:
    """Name the first column that differs."""
    for at, field in enumerate(schema):
        if at >= len(batch.schema) or not batch.schema.field(at).equals(field):
            other = batch.schema.field(at) if at < len(batch.schema) else "nothing"
            return f"{field} became {other}"
    return f"{batch.schema.field(len(schema))} came in addition"

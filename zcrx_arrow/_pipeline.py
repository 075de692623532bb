# SPDX-License-Identifier: Apache-2.0
"""What happens to a batch between the core and its consumer: a user's framing, a decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from zcrx_arrow._cutting import PythonCutter, message_schema
from zcrx_arrow._raw import RawBatch
from zcrx_arrow.decoders._base import Context, Decoder, Decoding, Rejected
from zcrx_arrow.errors import ConfigError
from zcrx_arrow.framing import Framing, Raw, is_native

if TYPE_CHECKING:
    from collections.abc import Callable

    from zcrx_arrow.config import PayloadType

__all__ = ["Pipeline", "Stages"]

_PAYLOADS = {
    "binary_view": pa.binary_view(),
    "string_view": pa.string_view(),
    "large_binary": pa.large_binary(),
    "large_string": pa.large_string(),
}


class Stages:
    """Which stages a feed has, as options say; checked before anything is opened."""

    def __init__(
        self, framing: Framing | None, decode: Decoder | None, payload_type: PayloadType
    ) -> None:
        if decode is not None and not isinstance(decode, Decoder):
            raise ConfigError(f"decode must be one of zcrx_arrow.decoders, not {decode!r}")
        if framing is not None and not isinstance(framing, Framing):
            raise ConfigError(f"framing must be one of zcrx_arrow.framing, not {framing!r}")
        if decode is not None and payload_type != "binary_view":
            raise ConfigError(
                f"payload_type={payload_type!r} is of no use with decode=, which replaces payloads"
            )
        self.decode = decode
        self.framing = framing or (decode.framing if decode is not None else Raw())
        native = is_native(self.framing)
        if decode is not None and isinstance(self.framing, Raw):
            raise ConfigError("decode= needs a framing that finds messages, not Raw()")
        blocks = native and decode is not None and decode.blocks(self.framing)
        self.blocks = decode.batch_bytes if blocks and decode is not None else 0
        self.payload_type: PayloadType = payload_type if native else "binary_view"
        self._messages: PayloadType = payload_type

    @property
    def needed(self) -> bool:
        """Whether the core's batches are not yet what the user wants."""
        return self.decode is not None or not is_native(self.framing)

    def pipeline(self, context: Context, transport: str, raw_schema: pa.Schema) -> Pipeline:
        """Build them for one feed."""
        cutter = None
        if not is_native(self.framing):
            payload = _PAYLOADS["binary_view" if self.decode is not None else self._messages]
            name = type(self.framing).__name__
            cutter = PythonCutter(self.framing, context, message_schema(payload, name, transport))
        decoding = self.decode.start(context, self.framing) if self.decode is not None else None
        return Pipeline(context, cutter, decoding, raw_schema)


class Pipeline:
    """Not thread-safe: whoever feeds it holds a lock."""

    def __init__(
        self,
        context: Context,
        cutter: PythonCutter | None,
        decoding: Decoding | None,
        raw_schema: pa.Schema,
    ) -> None:
        self.context = context
        self._cutter, self._decoding = cutter, decoding
        self._raw_schema = raw_schema
        self._seen: set[int] = set()

    @property
    def schema(self) -> pa.Schema | None:
        """Of what comes out; None: it takes the first rows to know."""
        if self._decoding is not None:
            return self._decoding.schema
        assert self._cutter is not None  # noqa: S101 - see Stages.needed
        return self._cutter.schema

    def raw(self, array: object) -> RawBatch:
        """Wrap what the core gave."""
        return RawBatch(array, self._raw_schema)

    def select(self, columns: list[str] | None) -> None:
        """Have only these columns decoded, where that saves work; others may come as well."""
        if self._decoding is not None:
            self._decoding.select(columns)

    def whole(self, batch: pa.RecordBatch) -> bool:
        """Whether a batch that has come out has all columns, whatever was selected."""
        schema = self.schema
        return schema is not None and batch.num_columns == len(schema)

    def feed(self, raw: RawBatch) -> list[pa.RecordBatch]:
        """
        Take a batch of the core; moves it.

        Raises
        ------
        ZcrxError
            If rejected rows have piled up to their limit. The batch is lost with that.
        """
        self._seen |= raw.distinct
        if self._cutter is None:
            assert self._decoding is not None  # noqa: S101 - see Stages.needed
            return self._counted(self._decoding.decode(raw))
        return self._messages(self._cutter.cut(raw))

    def _messages(self, messages: pa.RecordBatch) -> list[pa.RecordBatch]:
        if not messages.num_rows:
            return []
        if self._decoding is None:
            return self._counted([messages])
        return self._counted(self._decoding.decode(RawBatch.of(messages)))

    def _counted(self, batches: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
        self.context.stats.rows += sum(batch.num_rows for batch in batches)
        return batches

    @property
    def known(self) -> set[int]:
        """Connections of which something may be remembered."""
        return self._seen

    def closed(self, connection: int, *, clean: bool) -> list[pa.RecordBatch]:
        """Say that no more of a connection comes; gives what that makes whole."""
        self._seen.discard(connection)
        batches = []
        if self._cutter is not None:
            batches = self._messages(self._cutter.finish(connection, clean=clean))
        if self._decoding is not None:
            self._decoding.forget(connection)
        return batches


def new_context(name: str, dismiss: Callable[[int, str], None], rows: int, bytes_: int) -> Context:
    """Make the context of a feed."""
    return Context(name, dismiss, Rejected(rows, bytes_))

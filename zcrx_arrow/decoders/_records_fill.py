# SPDX-License-Identifier: Apache-2.0
"""`Records` at work: the core fills buffers, and they become columns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from zcrx_arrow._native import ffi, lib
from zcrx_arrow.decoders._base import Context, with_origins
from zcrx_arrow.errors import ConfigError

if TYPE_CHECKING:
    import numpy.typing as npt

    from zcrx_arrow._raw import RawBatch
    from zcrx_arrow.decoders._layout import Layout, Leaf, Node

__all__ = ["Plan", "RecordsAtWork"]

_FEW: Final = 255
_REASONS: Final = {
    lib.ZA_BAD_LENGTH: "the record has {bytes} bytes, its layout {expected}",
    lib.ZA_BAD_DISCRIMINATOR: "no layout for byte {byte!r}",
    lib.ZA_BAD_UTF8: "field {field!r} is not UTF-8",
    lib.ZA_BAD_RANGE: "field {field!r} is larger than its type",
}


_FLAT_COLUMNS: Final = 64


@dataclass(slots=True, kw_only=True)
class Plan:
    """What `Records` was told, checked."""

    keys: list[bytes]
    layouts: list[Layout]
    wanted: set[bytes]
    several: bool
    discriminator: int
    union: str | None
    longer: bool
    skip_short: bool
    null_bad: bool
    reject: bool
    keep: tuple[str, ...]
    columns: dict[str, Node] = field(init=False)
    schema: pa.Schema = field(init=False)

    def __post_init__(self) -> None:
        """Unite the layouts; raises `ConfigError` where they contradict each other."""
        self.columns = self._merge()
        self.schema = with_origins(self._make_schema(), self.keep)

    @property
    def sizes(self) -> set[int]:
        """Bytes of a record, of all layouts."""
        return {each.dtype.itemsize for each in self.layouts}

    @property
    def kinds(self) -> dict[str, pa.Schema]:
        """Columns of each layout that is kept."""
        return {
            key.decode("latin-1"): with_origins(
                pa.schema([self.schema.field(name) for name in layout.columns]), self.keep
            )
            for key, layout in zip(self.keys, self.layouts, strict=True)
            if key in self.wanted
        }

    def _merge(self) -> dict[str, Node]:
        """Unite the layouts' columns by name."""
        columns: dict[str, Node] = {}
        shapes: dict[str, tuple[Any, ...]] = {}
        for key, layout in zip(self.keys, self.layouts, strict=True):
            if key not in self.wanted:
                continue
            for leaf in layout.leaves:
                if shapes.setdefault(leaf.path, leaf.shape) != leaf.shape:
                    raise ConfigError(
                        f"Records: field {leaf.path!r} has not the same type in every layout",
                        remedy="Give it one by types=, or rename it.",
                    )
            for name, node in layout.columns.items():
                if columns.setdefault(name, node) != node:
                    raise ConfigError(f"Records: field {name!r} is not the same in every layout")
        return columns

    def _make_schema(self) -> pa.Schema:
        fields = [
            pa.field(name, node.type, nullable=self._may_be_null(name, node))
            for name, node in self.columns.items()
        ]
        if self.union is not None:
            if self.union in self.columns:
                raise ConfigError(f"Records: union={self.union!r} is the name of a field")
            fields.insert(
                0, pa.field(self.union, pa.dictionary(pa.uint8(), pa.string()), nullable=False)
            )
        return pa.schema(fields)

    def _may_be_null(self, name: str, node: Node) -> bool:
        return (
            self.several
            or (node.leaf is not None and self.leaf_may_be_null(name))
            or bool(node.leaf is None)
        )

    def leaf_may_be_null(self, path: str) -> bool:
        return self.several or any(
            leaf.path == path and (leaf.null is not None or (leaf.check and self.null_bad))
            for layout in self.layouts
            for leaf in layout.leaves
        )


class RecordsAtWork:
    """`Records` on one source."""

    def __init__(self, plan: Plan, context: Context, block: int) -> None:
        self.schema: pa.Schema | None = plan.schema
        self.plan, self._context = plan, context
        self._block = block
        self._all = _first_leaves(plan)
        self.select(None)

    def select(self, columns: list[str] | None) -> None:
        """Decode these columns only; text in others is not looked at either."""
        plan = self.plan
        self.columns = {
            name: node for name, node in plan.columns.items() if columns is None or name in columns
        }
        paths = {path for node in self.columns.values() for path in node.paths()}
        self.leaves = {path: leaf for path, leaf in self._all.items() if path in paths}
        self.out_schema = pa.schema(
            [
                field_
                for field_ in plan.schema
                if field_.name not in plan.columns or field_.name in self.columns
            ]
        )
        self.order = {path: at for at, path in enumerate(self.leaves)}
        self.nullable = [plan.leaf_may_be_null(path) for path in self.leaves]
        self._alive: list[Any] = []
        self.core = self._to_core(self._block)
        # One call makes the batch, where there is nothing to decide.
        self.flat = (
            self._block == plan.layouts[0].dtype.itemsize
            and not plan.several
            and not plan.keep
            and all(node.leaf is not None for node in self.columns.values())
            and list(self.leaves) == list(self.columns)
            and 0 < len(self.leaves) <= _FLAT_COLUMNS
            and all(
                leaf.kind == lib.ZA_FIELD_COPY and not leaf.check and len(leaf.offsets) == 1
                for leaf in self.leaves.values()
            )
            and not any(self.nullable)
        )

    def _new(self, kind: str, value: Any) -> Any:
        made = ffi.new(kind, value)
        self._alive.append(made)
        return made

    def _to_core(self, block: int) -> Any:
        plan = self.plan
        layouts = self._new("struct za_layout[]", len(plan.layouts))
        for at, layout in enumerate(plan.layouts):
            leaves = [leaf for leaf in layout.leaves if leaf.path in self.order]
            fields = self._new("struct za_field[]", len(leaves) or 1)
            for core_field, leaf in zip(fields, leaves, strict=False):
                self._fill_field(core_field, leaf)
            layouts[at].bytes = layout.dtype.itemsize
            layouts[at].longer = plan.longer
            layouts[at].n_fields = len(leaves)
            layouts[at].fields = fields
        core = self._new("struct za_records *", None)
        core.n_layouts = len(plan.layouts)
        core.layouts = layouts
        core.discriminator = plan.discriminator
        core.block_bytes = block
        core.n_columns = len(self.leaves)
        core.null_bad_values = plan.null_bad
        core.skip_short = plan.skip_short
        for byte in range(256):
            core.layout_of[byte] = lib.ZA_LAYOUT_NONE
        for at, key in enumerate(plan.keys):
            if key:
                wanted = key in plan.wanted
                core.layout_of[key[0]] = at if wanted else lib.ZA_LAYOUT_SKIP
        return core

    def _fill_field(self, field: Any, leaf: Leaf) -> None:
        field.offsets = self._new("uint32_t[]", list(leaf.offsets))
        field.elements = len(leaf.offsets)
        field.column = self.order[leaf.path]
        field.bytes = leaf.size
        field.kind = leaf.kind
        field.check = leaf.check
        field.out_bytes = leaf.out_bytes
        field.swap = leaf.swap
        field.is_signed = leaf.signed
        field.has_null = leaf.null is not None
        field.null_value = leaf.null or 0
        field.below = leaf.below

    def forget(self, connection: int) -> None:
        """Nothing is known of connections."""

    def decode(self, raw: RawBatch) -> list[pa.RecordBatch]:
        """See `Decoding`."""
        context = self._context
        if self.flat and not context.any_dead:
            array = ffi.new("struct ArrowArray *")
            try:
                if lib.za_records_flat(self.core, raw.array, array):
                    raise MemoryError
            finally:
                raw.release()
            address = int(ffi.cast("uintptr_t", array))
            batch = pa.RecordBatch._import_from_c(address, self.out_schema)  # noqa: SLF001
            return [batch] if batch.num_rows else []
        try:
            made = _Fill(self, raw, self.plan.keep)
            if made.bad or context.any_dead:
                made = self._with_bad(raw, made)
        finally:
            raw.release()
        context.stats.nulled_rows += made.nulled
        batch = made.batch()
        return [batch] if batch.num_rows else []

    def _with_bad(self, raw: RawBatch, made: _Fill) -> _Fill:
        """Apply the policy to bad records, and leave out what comes of failed connections."""
        context, plan = self._context, self.plan
        connections, positions, received = raw.connections, raw.positions, raw.received
        for bad in made.bad:
            connection, offset = int(connections[bad.row]), int(bad.offset)
            position = int(positions[bad.row]) + offset
            if context.is_dead(connection):
                continue
            reason, payload = self._explain(raw, bad)
            if plan.reject:
                context.reject(connection, position, int(received[bad.row]), reason, payload)
            else:
                context.fail(connection, position, reason)
                made.cut_off[connection] = position
        # Again, with the origins of all rows: those behind a failure must not be handed out.
        made.again(raw, context)
        return made

    def _explain(self, raw: RawBatch, bad: Any) -> tuple[str, bytes]:
        at = raw.rows()[bad.row][3] + int(bad.offset)
        payload = bytes(ffi.buffer(ffi.cast("char *", at), bad.bytes)) if bad.bytes else b""
        plan = self.plan
        layout = plan.layouts[bad.layout] if bad.layout < len(plan.layouts) else None
        leaf = ""
        if layout and bad.reason in (lib.ZA_BAD_UTF8, lib.ZA_BAD_RANGE):
            leaf = [each for each in layout.leaves if each.path in self.order][bad.field].path
        where = plan.discriminator
        return (
            _REASONS[bad.reason].format(
                bytes=bad.bytes,
                expected=layout.dtype.itemsize if layout else "?",
                byte=payload[where : where + 1] if where >= 0 else b"",
                field=leaf,
            ),
            payload,
        )


def _first_leaves(plan: Plan) -> dict[str, Leaf]:
    """Each leaf once, as the first layout that has it has it, with its widest form."""
    leaves: dict[str, Leaf] = {}
    for key, layout in zip(plan.keys, plan.layouts, strict=True):
        if key in plan.wanted:
            for leaf in layout.leaves:
                if leaf.path not in leaves or leaves[leaf.path].size < leaf.size:
                    leaves[leaf.path] = leaf
    return leaves


class _Fill:
    """The buffers of one batch's columns."""

    def __init__(self, work: RecordsAtWork, raw: RawBatch, keep: tuple[str, ...]) -> None:
        self._work, self._keep = work, keep
        self.cut_off: dict[int, int] = {}
        self._mask: Any = None
        self._run(raw, keep)

    def _run(self, raw: RawBatch, origins: tuple[str, ...]) -> None:
        work = self._work
        core, leaves = work.core, work.leaves
        plan = work.plan
        count = int(lib.za_records_count(core, raw.array))
        self._columns = ffi.new("struct za_column[]", len(leaves) or 1)
        self._buffers = [
            self._allocate(column, leaf, count, nullable)
            for column, leaf, nullable in zip(
                self._columns, leaves.values(), work.nullable, strict=False
            )
        ]
        out = ffi.new("struct za_origins *")
        self._origins = {name: pa.allocate_buffer(_width(name) * count) for name in origins}
        for name, member in _MEMBERS.items():
            if name in self._origins:
                pointer = ffi.cast("void *", self._origins[name].address)
                setattr(out, member, ffi.cast(_POINTERS[name], pointer))
        self._layouts = pa.allocate_buffer(count) if plan.several else None
        if self._layouts is not None:
            out.layouts = ffi.cast("uint8_t *", self._layouts.address)
        rows = ffi.new("uint64_t *")
        out.nulled = nulled = ffi.new("uint64_t *")
        room = min(count, _FEW) + 1
        while True:
            bad = ffi.new("struct za_bad[]", room)
            nulled[0] = 0
            found = lib.za_records_decode(core, raw.array, self._columns, out, bad, room, rows)
            if found < room:
                break
            room = count + 1  # it has stopped there
        self.bad = [bad[i] for i in range(found)]
        self._bad_alive = bad
        self.rows = int(rows[0])
        self.nulled = int(nulled[0])

    @staticmethod
    def _allocate(column: Any, leaf: Leaf, count: int, nullable: bool) -> list[Any]:
        elements = count * len(leaf.offsets)
        validity = offsets = None
        if nullable:
            validity = pa.allocate_buffer((elements + 7) // 8)
            column.validity = ffi.cast("uint8_t *", validity.address)
        if leaf.kind == lib.ZA_FIELD_TEXT:
            offsets = pa.allocate_buffer(4 * (elements + 1))
            column.offsets = ffi.cast("int32_t *", offsets.address)
            values = pa.allocate_buffer(elements * leaf.size)
        elif leaf.kind == lib.ZA_FIELD_BOOL:
            values = pa.allocate_buffer((elements + 7) // 8)
        else:
            values = pa.allocate_buffer(elements * leaf.out_bytes)
        column.values = ffi.cast("uint8_t *", values.address)
        return [validity, offsets, values]

    def again(self, raw: RawBatch, context: Context) -> None:
        """Fill once more, with connection and position, to know what to leave out."""
        bad, cut_off = self.bad, self.cut_off
        self._run(raw, tuple({*self._keep, "connection", "position"}))
        self.bad = bad
        connections = np.frombuffer(self._origins["connection"], "u4")[: self.rows]
        positions = np.frombuffer(self._origins["position"], "u8")[: self.rows]
        mask = np.ones(self.rows, bool)
        for connection in np.unique(connections):
            if context.is_dead(int(connection)):
                limit = cut_off.get(int(connection), 0)
                mask &= (connections != connection) | (positions < limit)
        if not mask.all():
            self._mask = mask

    def batch(self) -> pa.RecordBatch:
        """Put the columns together."""
        work = self._work
        plan = work.plan
        schema = work.out_schema
        arrays = []
        if plan.union is not None:
            names = pa.array([key.decode("latin-1") for key in plan.keys], pa.string())
            indices = pa.Array.from_buffers(pa.uint8(), self.rows, [None, self._layouts])
            arrays.append(pa.DictionaryArray.from_arrays(indices, names))
        arrays += [self._array(node, self.rows, name) for name, node in work.columns.items()]
        for name in self._keep:
            type_ = schema.field(name).type
            arrays.append(pa.Array.from_buffers(type_, self.rows, [None, self._origins[name]]))
        batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
        return batch if self._mask is None else _kept(batch, self._mask)

    def _array(self, node: Node, length: int, column: str) -> pa.Array:
        if node.leaf is not None:
            at = self._work.order[node.leaf]
            validity, offsets, values = self._buffers[at]
            nulls = int(self._columns[at].nulls)
            buffers = [validity if nulls else None]
            if offsets is not None:
                buffers.append(offsets)
                values = values.slice(0, int(self._columns[at].bytes))
            return pa.Array.from_buffers(node.type, length, [*buffers, values], nulls)
        if node.item is not None:
            item = self._array(node.item, length * node.type.list_size, column)
            return pa.Array.from_buffers(
                node.type, length, [self._presence(column, length)], children=[item]
            )
        children = [self._array(each, length, column) for _, each in node.fields]
        return pa.Array.from_buffers(
            node.type, length, [self._presence(column, length)], children=children
        )

    def _presence(self, column: str, length: int) -> pa.Buffer | None:
        """Give the validity of a nested column: null where the row's layout has no such field."""
        plan = self._work.plan
        if self._layouts is None or length != self.rows:
            return None
        having = np.array([column in layout.columns for layout in plan.layouts])
        present = having[np.frombuffer(self._layouts, "u1")[: self.rows]]
        return None if present.all() else pa.py_buffer(np.packbits(present, bitorder="little"))


_MEMBERS: Final = {"connection": "connections", "position": "positions", "received_at": "received"}
_POINTERS: Final = {
    "connection": "uint32_t *",
    "position": "uint64_t *",
    "received_at": "int64_t *",
}


def _kept(batch: pa.RecordBatch, mask: npt.NDArray[np.bool_]) -> pa.RecordBatch:
    """Leave rows out; pyarrow (26) has no filter for views."""
    edges = np.flatnonzero(np.diff(mask, prepend=False, append=False)).reshape(-1, 2)
    parts = [batch.slice(start, end - start) for start, end in edges.tolist()]
    return pa.concat_batches(parts) if parts else batch.slice(0, 0)


def _width(name: str) -> int:
    return 4 if name == "connection" else 8

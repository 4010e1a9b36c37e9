"""What figures are made of: committing to rows as they become part of a table, and cutting the same chunks again from the table."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import and_, func, select

from guantong.base.chunks import ChunkTree, chunk_leaf, chunk_salt
from guantong.base.entry import Entry
from guantong.base.errors import Corrupt, Refused, Skippable
from guantong.base.merkle import HASH_BYTES
from guantong.keep.service import Keep
from guantong.prove.figure import CHUNKS_COMMITTED, Definition
from guantong.prove.figure_functions import Function, Window, natural
from guantong.prove.figure_proof import Chunk, Unit
from guantong.prove.model import ProveSettings
from guantong.prove.tables import CHUNKS, STRETCHES
from guantong.records import Records, Step
from guantong.records.service import Row

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Inputs"]

_CACHED = 8
_BESIDE = 200


@dataclass(frozen=True, slots=True)
class _Piece:
    """A chunk of a stretch before it becomes part of a unit."""

    entry: int
    index: int
    text: bytes
    low: int
    high: int


class Inputs:
    """Commitments and chunks of the participants of this node."""

    def __init__(self, records: Records, keep: Keep, settings: ProveSettings) -> None:
        self._records = records
        self._keep = keep
        self.settings = settings
        self._cut: OrderedDict[tuple[str, int, str], Mapping[str, list[bytes]]] = OrderedDict()

    # ---- committing

    def note(self, table: str, rows: pa.Table) -> Callable[[Step], None] | None:
        """Commit to the rows that became part of a table: keep's :data:`guantong.keep.ports.Note`."""
        from guantong.prove.figure_chunks import cut

        if not rows.num_rows:
            return None
        import pyarrow.compute as pc

        span = pc.min_max(rows["log_position"]).as_py()
        stretches, texts = cut(table, rows)
        secret = self._records.random(32)
        tree = ChunkTree.of(secret, texts)
        root = tree.root
        count = rows.num_rows

        def do(step: Step) -> None:
            place = step.record(
                Entry(
                    CHUNKS_COMMITTED,
                    {
                        "table": table,
                        "first": span["min"],
                        "last": span["max"],
                        "rows": count,
                        "chunks": len(texts),
                        "root": "sha256:" + root.hex(),
                    },
                )
            )

            def write(connection: Any) -> None:
                entry = step.leaves[place]
                connection.execute(
                    CHUNKS.insert(),
                    {
                        "participant": step.participant,
                        "entry": entry,
                        "source_table": table,
                        "first": span["min"],
                        "last": span["max"],
                        "secret": secret,
                        "root": root,
                        "leaves": b"".join(tree.leaves),
                        "committed_at": step.at,
                    },
                )
                connection.execute(
                    STRETCHES.insert(),
                    [
                        {
                            "participant": step.participant,
                            "stream": one.stream[:512],
                            "entry": entry,
                            "source_table": table,
                            "start": one.start,
                            "count": one.count,
                            "first_time": one.first,
                            "last_time": one.last,
                        }
                        for one in stretches
                    ],
                )

            step.apply(write)

        return do

    async def streams(self, participant: str, table: str | None = None) -> list[dict[str, Any]]:
        """Streams that have commitments: ``{table, stream, chunks, commitments}``."""
        where = STRETCHES.c.participant == participant
        if table is not None:
            where = and_(where, STRETCHES.c.source_table == table)
        rows = await self._records.rows(
            select(
                STRETCHES.c.source_table.label("table"),
                STRETCHES.c.stream,
                func.sum(STRETCHES.c.count).label("chunks"),
                func.count().label("commitments"),
            )
            .where(where)
            .group_by(STRETCHES.c.source_table, STRETCHES.c.stream)
            .order_by(STRETCHES.c.source_table, STRETCHES.c.stream)
        )
        return [dict(row) | {"chunks": int(row["chunks"])} for row in rows]

    async def units(
        self, participant: str, definition: Definition, function: Function, window: Window
    ) -> tuple[list[Unit], list[dict[str, Any]]]:
        """Units of a figure in the order in which its function takes them in, and the commitments that they lie under.

        Raises Refused ``prove.figure-impossible``, Corrupt ``prove.chunk-differs``.
        """
        pieces: list[tuple[str, str, list[_Piece]]] = []
        entries: set[int] = set()
        for role in function.roles:
            for one in definition.inputs:
                if one.role != role.strip("[]"):
                    continue
                for stream in one.streams:
                    found = await self._pieces(participant, one.table, stream, window)
                    if not found and not role.startswith("["):
                        raise Refused(
                            "prove.figure-impossible",
                            figure=definition.id,
                            reason=f"nothing of {stream} was committed to in or before the window",
                        )
                    groups = _overlapping(found) if one.table == "readings" else _grouped(found, definition, function)
                    pieces += [(one.role, stream, group) for group in groups]
                    entries |= {piece.entry for piece in found}
        if len(pieces) > self.settings.figure_positions_max:
            raise Refused(
                "prove.figure-impossible",
                figure=definition.id,
                reason=f"more than {self.settings.figure_positions_max} chunks: choose a shorter window",
            )
        order = sorted(entries)
        rows = {entry: await self.commitment(participant, entry) for entry in order}
        trees = {entry: ChunkTree(_leaves(row)) for entry, row in rows.items()}
        place = {entry: at for at, entry in enumerate(order)}
        units = [
            Unit(
                role,
                stream,
                tuple(
                    Chunk(
                        place[piece.entry],
                        piece.index,
                        chunk_salt(rows[piece.entry]["secret"], piece.index),
                        piece.text,
                        lambda entry=piece.entry, index=piece.index: trees[entry].path(index),  # type: ignore[misc]
                    )
                    for piece in group
                ),
            )
            for role, stream, group in pieces
        ]
        commits = [
            {
                "entry": entry,
                "table": rows[entry]["source_table"],
                "chunks": len(trees[entry].leaves),
                "root": "sha256:" + bytes(rows[entry]["root"]).hex(),
            }
            for entry in order
        ]
        return units, commits + await self._between(participant, rows)

    async def _between(self, participant: str, used: Mapping[int, Row]) -> list[dict[str, Any]]:
        """The other commitments over the stretch of the log that the used ones span, so that a buyer sees which of it is in none.

        None at all where there are more than :data:`_BESIDE` of them: then the result says that so much was left out.
        """
        if not used:
            return []
        low, high = min(row["first"] for row in used.values()), max(row["last"] for row in used.values())
        found = await self._records.rows(
            select(CHUNKS.c.entry, CHUNKS.c.source_table, CHUNKS.c.root, func.length(CHUNKS.c.leaves).label("size"))
            .where(and_(CHUNKS.c.participant == participant, CHUNKS.c.last >= low, CHUNKS.c.first <= high))
            .order_by(CHUNKS.c.entry)
            .limit(_BESIDE + len(used) + 1)
        )
        beside = [row for row in found if row["entry"] not in used]
        if len(beside) > _BESIDE:
            return []
        return [
            {
                "entry": int(row["entry"]),
                "table": row["source_table"],
                "chunks": int(row["size"]) // HASH_BYTES,
                "root": "sha256:" + bytes(row["root"]).hex(),
            }
            for row in beside
        ]

    async def _pieces(self, participant: str, table: str, stream: str, window: Window) -> list[_Piece]:
        stretches = await self._records.rows(
            select(STRETCHES)
            .where(
                and_(
                    STRETCHES.c.participant == participant,
                    STRETCHES.c.stream == stream[:512],
                    STRETCHES.c.source_table == table,
                )
            )
            .order_by(STRETCHES.c.first_time, STRETCHES.c.entry)
        )
        found: list[_Piece] = []
        if table == "readings":
            inside = [row for row in stretches if row["last_time"] >= window.start and row["first_time"] < window.end]
            before = [row for row in stretches if row["last_time"] < window.start]
            # what held when the window began was said before it
            stretches = [*([max(before, key=lambda row: row["last_time"])] if before else []), *inside]
        for row in stretches:
            for at, text in enumerate(await self._texts(participant, table, stream, row)):
                head = orjson.loads(text)
                low, high = (head["time"][0], head["time"][-1]) if table == "readings" else (0, 0)
                found.append(_Piece(row["entry"], row["start"] + at, text, low, high))
        if table == "readings":
            found.sort(key=lambda piece: (piece.low, piece.high))
            earlier = [at for at, piece in enumerate(found) if piece.high < window.start]
            found = [
                piece
                for at, piece in enumerate(found)
                if piece.low < window.end and (piece.high >= window.start or at == earlier[-1])
            ]
        return found

    async def _texts(self, participant: str, table: str, stream: str, stretch: Row) -> list[bytes]:
        """The chunk texts of a stretch, cut again from the table and compared with what was committed."""
        from guantong.prove.figure_chunks import texts_of

        entry = int(stretch["entry"])
        key = (participant, entry, stream if table == "readings" else "")
        known = self._cut.get(key)
        if known is None:
            commitment = await self.commitment(participant, entry)
            rows = await self._rows(participant, table, stream, stretch, commitment)
            known = await asyncio.to_thread(lambda: {name: texts for name, _, _, texts in texts_of(table, rows)})
            self._cut[key] = known
            if len(self._cut) > _CACHED:
                self._cut.popitem(last=False)
        texts = known.get(stream, [])
        await self._same(participant, stretch, texts)
        return texts

    async def _rows(self, participant: str, table: str, stream: str, stretch: Row, commitment: Row) -> pa.Table:
        import pyarrow.compute as pc

        if table == "readings":
            signal = int(stream.removeprefix("signal/"))
            rows = await self._keep.range(
                participant, [signal], stretch["first_time"], stretch["last_time"] + 1, revisions=True
            )
        elif table == "measurements":
            rows = await self._keep.measurements(participant, revisions=True)
        else:
            rows = await self._keep.table(participant, table.removeprefix("table:"))
        if not rows.num_rows:
            return rows
        position = pc.field("log_position")
        return rows.filter((position >= commitment["first"]) & (position <= commitment["last"]))

    async def _same(self, participant: str, stretch: Row, texts: list[bytes]) -> None:
        commitment = await self.commitment(participant, int(stretch["entry"]))
        start = int(stretch["start"])
        leaves = _leaves(commitment)[start : start + int(stretch["count"])]
        if len(texts) < len(leaves):
            raise Refused(
                "prove.figure-impossible",
                figure=str(stretch["stream"]),
                reason="rows that were committed to are no longer kept",
            )
        again = [chunk_leaf(chunk_salt(commitment["secret"], start + at), text) for at, text in enumerate(texts)]
        if leaves != again:
            raise Corrupt(
                "prove.chunk-differs", stream=stretch["stream"], entry=stretch["entry"], table=stretch["source_table"]
            )

    async def commitment(self, participant: str, entry: int) -> Row:
        """The commitment that a log entry records. Raises Skippable ``prove.figure-unknown``."""
        row = await self._records.row(
            select(CHUNKS).where(and_(CHUNKS.c.participant == participant, CHUNKS.c.entry == entry))
        )
        if row is None:
            raise Skippable("prove.figure-unknown", figure=f"commitment {entry}")
        return row


def _overlapping(pieces: list[_Piece]) -> list[list[_Piece]]:
    """Pieces whose times overlap stand together: late rows and revisions belong to what they change."""
    groups: list[list[_Piece]] = []
    high = None
    for piece in pieces:
        if high is not None and piece.low <= high:
            groups[-1].append(piece)
            high = max(high, piece.high)
        else:
            groups.append([piece])
            high = piece.high
    return groups


def _grouped(pieces: list[_Piece], definition: Definition, function: Function) -> list[list[_Piece]]:
    """Rows of one part, or of one order, stand together, in the order in which the function wants them."""
    groups: dict[Any, list[_Piece]] = {}
    keys: dict[Any, Any] = {}
    report = definition.parameters.get("report")
    for piece in pieces:
        row = orjson.loads(piece.text)["row"]
        if function.id == "cpk":
            if report is not None and row["report"] != report:
                continue
            key = natural(str(row["part"]))
            if definition.parameters.get("order") == "time" and row["time"] is not None:
                key = [[0, row["time"], ""], *key]
        else:
            key = natural(str(row.get(str(definition.parameters.get("order", "")))))
        name = str(key)
        keys[name] = key
        groups.setdefault(name, []).append(piece)
    return [groups[name] for name in sorted(groups, key=lambda name: keys[name])]


def _leaves(row: Row) -> list[bytes]:
    data = bytes(row["leaves"])
    return [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]

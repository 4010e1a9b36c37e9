"""Values of keep: clean schemas, settings, what the log hands out, what a query may ask.

Nothing here imports pyarrow before a schema is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from guantong.base.batch import Batch
from guantong.base.entry import EntryKind

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "COMMITTED",
    "ENTRY_KINDS",
    "MEASUREMENT_KEY",
    "READINGS_KEY",
    "ClockCheck",
    "Filter",
    "Forecast",
    "KeepSettings",
    "KeepStats",
    "Logged",
    "Retention",
    "Upkeep",
    "clean_measurement_schema",
    "clean_schema",
]

READINGS_KEY = ("signal_id", "source_time", "source_ns", "sequence")
"""What makes a reading the same reading; of several revisions of one key, queries answer with the highest."""

MEASUREMENT_KEY = ("report", "result", "characteristic", "feature")
"""The same for a measured characteristic. Names repeat within a part, so the name is no part of it."""


@cache
def clean_schema() -> pa.Schema:
    """Columns of a clean reading, as fuse hands it over and as the table ``readings`` stores it.

    source_time is cut to the microsecond, which is what Delta can hold; source_ns (0 to 999) is the rest, so that no digit is lost.
    aligned_time: source time plus the clock correction, null where there is none. status: OPC UA StatusCode (Part 4, 7.39), unsigned
    32 bits. revision: 0 first; reason says why a later one exists. corrections: ids, separated by blanks. log_position: the entry of
    the durable log that the row came from. day: UTC day of source_time, the partition.
    """
    import pyarrow as pa

    time = pa.timestamp("us", tz="UTC")
    return pa.schema(
        [
            pa.field("signal_id", pa.int32(), nullable=False),
            pa.field("source_time", time, nullable=False),
            pa.field("source_ns", pa.int16(), nullable=False),
            pa.field("server_time", time),
            pa.field("receive_time", time, nullable=False),
            pa.field("aligned_time", time),
            pa.field("value_f64", pa.float64()),
            pa.field("value_i64", pa.int64()),
            pa.field("value_text", pa.string()),
            pa.field("value_bool", pa.bool_()),
            pa.field("status", pa.int64(), nullable=False),
            pa.field("sequence", pa.int64()),
            pa.field("revision", pa.int32(), nullable=False),
            pa.field("reason", pa.string()),
            pa.field("corrections", pa.string()),
            pa.field("log_position", pa.int64(), nullable=False),
            pa.field("day", pa.date32(), nullable=False),
        ]
    )


@cache
def clean_measurement_schema() -> pa.Schema:
    """Columns of a clean measurement: those of :func:`guantong.base.batch.measurement_schema` with times in microseconds, then source
    (the interface it came through) · part (id of the reconciled part, or null) · revision · corrections · log_position.
    """
    import pyarrow as pa

    from guantong.base.batch import measurement_schema

    time = pa.timestamp("us", tz="UTC")
    columns = [
        pa.field(column.name, time if pa.types.is_timestamp(column.type) else column.type, nullable=column.nullable)
        for column in measurement_schema()
    ]
    return pa.schema(
        [
            *columns,
            pa.field("source", pa.string(), nullable=False),
            pa.field("part", pa.string()),
            pa.field("revision", pa.int32(), nullable=False),
            pa.field("corrections", pa.string()),
            pa.field("log_position", pa.int64(), nullable=False),
        ]
    )


@dataclass(frozen=True, slots=True)
class KeepSettings:
    """How much is kept, when it is committed, and what a query may cost."""

    log_bytes_max: int = 2 * 1024**3
    """Most bytes the durable log may hold. Above it, entries already in the tables go first; then ``log_drop`` decides."""
    log_drop: str = "refuse"
    """What a full log does: refuse (the source is not acknowledged and holds its data) or oldest (unread entries go, gap records stay)."""
    log_retention_s: float = 86_400.0
    """How long an entry stays in the log after the tables have it, so that it can be looked at again."""
    drain_rows_s: int = 2_000_000
    """A backlog of the log is read at most this fast (rows a second), so that live data is not delayed; 0: no limit."""
    key_file: str = ""
    """File with a 32-byte key (raw or hexadecimal) outside the node's directory: log and blobs are encrypted with it. Empty: not."""
    cipher: str = "aes-256-gcm"
    """Cipher at rest, where there is a key, and of back-ups: aes-256-gcm or sm4-gcm (SM algorithms; not a certified module). What was sealed with the
    other stays readable."""
    batch_bytes_max: int = 64 * 1024**2
    """Largest batch, as encoded."""
    commit_s: float = 60.0
    """A row waits at most this long for its table."""
    commit_rows: int = 100_000
    """So many waiting rows are committed at once."""
    commit_gap_s: float = 1.0
    """Commits of one participant are at least this far apart under load; small commits make slow tables."""
    tail_rows_max: int = 2_000_000
    """Most rows of a participant that wait in memory; above it ``store`` waits for a commit."""
    tables_uri: str = ""
    """Where the tables are: a folder or ``s3://bucket/prefix``. Empty: the folder ``tables`` beside the log."""
    storage_options: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Options of the object store (endpoint, region, key), as delta-rs names them. Holds secrets; never shown."""
    readings_days: float = 0.0
    """How many days of readings the tables keep where neither a signal nor its grade says otherwise; 0: all."""
    grade_days: Mapping[str, str] = field(default_factory=dict)
    """Days of readings by the grade that is enforced on a signal (general, important, core), for example general=365; before
    readings_days."""
    upkeep_s: float = 3_600.0
    """How often tables are sorted into few files, retention is kept and replaced files are removed, in seconds; 0: only when asked."""
    replaced_s: float = 86_400.0
    """How long a file that upkeep replaced stays, in seconds, for readers elsewhere that still use it."""
    query_threads: int = 2
    """Queries that run at once; others wait."""
    query_seconds: float = 30.0
    """Longest a query may run."""
    query_memory_bytes: int = 512 * 1024**2
    """Memory one query may use."""
    query_idle_s: float = 30.0
    """The process that answers queries ends when nobody has asked for so long. 0: queries run in the node's own process."""
    query_rows_max: int = 1_000_000
    """Most rows one answer may have; ``scan`` has no such limit, since it streams."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long readings are kept, in days; the strictest word on a signal is the nearest: its own, then its grade's, then the default.

    A later stage decides it (grades are govern's); keep only obeys. Revisions of a reading go with it.
    """

    days: float | None = None
    """Where nothing nearer is said. None: for ever."""
    signals: Mapping[int, float] = field(default_factory=dict)
    """Days by signal id."""
    grades: Mapping[str, float] = field(default_factory=dict)
    """Days by grade."""
    graded: Mapping[int, str] = field(default_factory=dict)
    """Grade by signal id."""

    def days_of(self, signal_id: int) -> float | None:
        """How many days readings of a signal stay; None: for ever."""
        own = self.signals.get(signal_id)
        return own if own is not None else self.grades.get(self.graded.get(signal_id, ""), self.days)

    def spoken_of(self) -> frozenset[int]:
        """Signals for which something else than the default may hold."""
        return frozenset({*self.signals, *(signal for signal, grade in self.graded.items() if grade in self.grades)})


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What one round of upkeep did to a table."""

    table: str
    files_before: int
    files_after: int
    rows_before: int
    rows_after: int
    repeats: int
    """Rows dropped because the same revision was there already."""
    expired: int
    """Rows dropped by retention."""
    removed: int
    """Files of older versions removed from the disk."""
    more: bool = False
    """The round ended by its time; the next one goes on."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """When the disk is full, if it goes on as it did."""

    free_bytes: int
    bytes_per_day: float | None
    """How fast free space shrinks; None while the history is too short."""
    full_at: int | None
    """Instant, ns; None where it does not shrink or nobody can say."""
    samples: int
    since: int | None
    """First sample used, ns."""


@dataclass(frozen=True, slots=True)
class ClockCheck:
    """What the node can tell of its own clock without asking anybody."""

    back_s: float
    """How far the clock stood before the newest entry of the log when the node opened it; 0: not before."""
    jumped_s: float
    """Largest step of the clock against the monotonic one since the start, signed."""
    synchronised: bool | None
    """Whether the system says its clock follows a time source; None: it does not say."""
    error_s: float | None
    """Largest error that the system admits."""


@dataclass(frozen=True, slots=True)
class Logged:
    """An entry of the durable log. Positions grow within a participant; they may have holes."""

    position: int
    batch: Batch
    at: int = 0
    """When it was made durable, ns."""


@dataclass(frozen=True, slots=True)
class Filter:
    """What :meth:`Keep.scan` yields. Times are ns, ``start`` included, ``end`` not; None means open. Empty tuples mean all."""

    signal_ids: tuple[int, ...] = ()
    start: int | None = None
    end: int | None = None
    models: tuple[str, ...] = ()
    serials: tuple[str, ...] = ()
    reports: tuple[str, ...] = ()
    revisions: bool = False
    """Every revision instead of the highest."""


@dataclass(frozen=True, slots=True)
class KeepStats:
    """What is kept for one participant."""

    rows: int
    """Readings in the table, all revisions."""
    revisions: int
    """Of those, rows with a revision above 0."""
    measurements: int
    """Measurements in the table, all revisions."""
    tail_rows: int
    """Rows that wait in memory (the log has them)."""
    bytes: int
    """Bytes of the tables' current files."""
    files: int
    """How many files that is."""
    log_bytes: int
    """Bytes of log entries."""
    log_entries: int
    """Number of log entries."""
    first_time: int | None
    """Earliest source time in table and tail, ns."""
    last_time: int | None
    """Latest source time in table and tail, ns."""
    commits: int
    """Commits of this participant's tables since the first."""
    logged: int
    """Position of the last entry of the log, 0 for none."""
    stored: int
    """Position up to which the tables are committed."""
    refused: int
    """Batches refused since the start because the log was full or its disk was."""
    repeated: int
    """Rows refused since the start because their position was already committed."""
    trimmed: int
    """Log entries trimmed since the start."""
    dropped_rows: int = 0
    """Rows that the drop policy took since the log was made; each is in a gap record."""
    error: str = ""
    """Code of the last failed commit, empty when the last one went well."""


COMMITTED = EntryKind(
    "keep.committed",
    "Rows became part of a table.",
    "数据行已写入数据表。",
    {
        "type": "object",
        "required": ["table", "version", "position", "rows"],
        "additionalProperties": False,
        "properties": {
            "table": {"type": "string"},
            "version": {"type": "integer", "minimum": 0},
            "position": {"type": "integer", "minimum": 0},
            "rows": {"type": "integer", "minimum": 0},
        },
    },
)
"""One leaf per commit of a Delta table: which version, up to which log position, how many rows."""

ENTRY_KINDS: tuple[EntryKind, ...] = (COMMITTED,)
"""Every kind of entry that keep records."""

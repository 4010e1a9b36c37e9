"""What connect speaks of: the interface of a source (the fields of AID 1.1), its scorecard, what a probe found, and its entries.

Source of the interface's fields: IDTA 02017-1-1, Asset Interfaces Description 1.1 (read and monitor only). Terms that AID does not have
live in guantong's own namespace, :data:`NAMESPACE`, and are listed in :data:`OWN_TERMS`. A secret is never part of an interface.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from guantong.base.entry import EntryKind
from guantong.base.errors import ConfigProblem

__all__ = [
    "EDGE_ENROLLED",
    "EDGE_REMOVED",
    "ENTRY_KINDS",
    "FILE_READ",
    "KINDS",
    "NAMESPACE",
    "OWN_TERMS",
    "PROTOCOLS",
    "QUARANTINE_REASONS",
    "SOURCE_ADDED",
    "SOURCE_REMOVED",
    "ConnectSettings",
    "Form",
    "Imported",
    "Interface",
    "Kind",
    "Property",
    "Proposal",
    "Scorecard",
    "SecurityScheme",
    "State",
]

NAMESPACE = "urn:guantong:connect:"
"""Semantic ids of guantong's own terms in an AID document: this, followed by the term's name."""

Kind = Literal[
    "shdr",
    "shdr-log",
    "mtconnect",
    "opcua",
    "qif",
    "folder",
    "mqtt",
    "sparkplug",
    "modbus",
    "http",
    "webhook",
    "sql",
    "s7",
]
KINDS: tuple[Kind, ...] = (
    "shdr",
    "shdr-log",
    "mtconnect",
    "opcua",
    "qif",
    "folder",
    "mqtt",
    "sparkplug",
    "modbus",
    "http",
    "webhook",
    "sql",
    "s7",
)
"""Kinds of sources; ``folder`` is a watched folder of CSV, Excel, JSON lines, Parquet, QIF, MTConnect and SHDR files. ``s7`` is
experimental: no independent server to prove it against is known."""

PROTOCOLS: Mapping[str, str] = {
    "mtconnect": "http://www.w3.org/2011/http",
    "opcua": "http://opcfoundation.org/UA/WoT-Binding/",
    "shdr": NAMESPACE + "protocol:shdr",
    "shdr-log": NAMESPACE + "protocol:file",
    "qif": NAMESPACE + "protocol:file",
    "folder": NAMESPACE + "protocol:file",
    "mqtt": "http://www.w3.org/2011/mqtt",
    "sparkplug": NAMESPACE + "protocol:sparkplug",
    "modbus": "http://www.w3.org/2011/modbus",
    "http": "http://www.w3.org/2011/http",
    "webhook": NAMESPACE + "protocol:webhook",
    "sql": NAMESPACE + "protocol:sql",
    "s7": NAMESPACE + "protocol:s7",
}
"""Supplemental semantic id of the interface, by kind (AID 1.1, 2.3; the last ones are guantong's own)."""

OWN_TERMS: Mapping[str, str] = {
    "kind": "which reader serves the interface, one of KINDS",
    "device": "MTConnect: name of the one device wanted; absent means every device of the agent",
    "interval_ms": "MTConnect: how often the agent pushes; OPC UA: publishing interval; Modbus, S7, HTTP, SQL: time between two polls",
    "count": "MTConnect: most observations in one answer",
    "pattern": "folder: glob of the file names that are taken, for example *.csv",
    "time_column": "folder: the column that holds the time of a reading",
    "time_format": "folder: how times are written, as strptime spells it; absent means found out",
    "zone": "folder: offset of local times from UTC, +HH:MM; absent means UTC",
    "delimiter": "folder: the character between columns; absent means found out",
    "decimal": "folder: the decimal mark, . or ,; absent means found out",
    "encoding": "folder: the character encoding; absent means found out",
    "as": "folder: readings or table; absent means readings where a time column is found",
    "signal_column": "folder: narrow form, one reading a row: the column that names the signal; absent means found out by its name",
    "value_column": "folder: narrow form: the column of the value; absent means found out by its name",
    "quality_column": "folder: narrow form: the column of the reading's quality; absent means found out by its name",
    "unit_column": "folder: narrow form: the column of the signal's unit; absent means found out by its name",
    "quality_scheme": "folder: narrow form: how quality is written: words, opc-da or opc-ua; absent means found out",
    "category": "property: MTConnect category, SAMPLE, EVENT or CONDITION",
    "type": "property: MTConnect or OPC UA type",
    "path": "property: where the signal sits in the machine, / between the levels",
    "scale": "property: factor that a register's value is multiplied with",
    "offset": "property: what is added to a register's value after that",
    "bit": "property: which bit of a register is meant, 0 the lowest",
    "unece": "property: UNECE code of the unit (OPC UA EUInformation.unitId)",
    "queue": "OPC UA: how many values the server keeps for an item while the line is down; absent means one a publishing interval of the outage",
    "outage_s": "OPC UA: how long the server is asked to keep session and subscription while the line is down; absent means 600",
    "sampling_ms": "OPC UA: how often the server samples an item",
    "topics": "MQTT: filters subscribed to, separated by blanks; absent means those of the properties, or # where there are none",
    "version": "MQTT: protocol version, 3.1.1 or 5; absent means 5",
    "client": "MQTT: client id, which keeps the session; absent means made of the source's name",
    "qos": "MQTT: quality of service asked for, 0, 1 or 2; absent means 1",
    "host_id": "Sparkplug: id of this host application; absent means guantong",
    "group": "Sparkplug: the one group wanted; absent means every group",
    "rebirth": "Sparkplug: no forbids asking an edge node for its birth again; absent means it is asked where data can't be understood",
    "framing": "Modbus: tcp, or rtu for serial frames through a TCP gateway; absent means tcp",
    "block": "Modbus: most registers, or bits, in one request; absent means 125",
    "skip": "Modbus: most unwanted registers read along to join two requests; absent means 8",
    "zero_based": "Modbus: false means that addresses count from 1; absent means from 0",
    "table": "SQL: table or view that is read",
    "key": "SQL: column that only grows, by which new rows are found; absent means the time column, or the whole table where it changed",
    "limit": "SQL: most rows in one question; absent means 10000",
    "method": "HTTP: GET or POST; absent means GET",
    "body": "HTTP: what is sent with POST",
    "rows": "HTTP, webhook: where in the answer the list of readings stands, / between the levels",
    "time": "MQTT, HTTP, webhook: member that holds the time; absent means the usual names are looked for",
    "token_sha256": "webhook: SHA-256 of the token that a request must bring",
    "sheet": "folder: sheet of an Excel workbook; absent means the first",
}
"""Terms beside AID 1.1 and what they mean; their semantic id is NAMESPACE + name."""

Terms = tuple[tuple[str, str], ...]
"""Names and values, sorted by name; values are text."""


@dataclass(frozen=True, slots=True)
class Form:
    """How a property is reached (AID 1.1, forms)."""

    href: str
    """Relative to the base; an SHDR key, a data item, or for OPC UA ``/?id=nsu=…``."""
    content_type: str | None = None
    """Overrides that of the endpoint."""
    subprotocol: str | None = None
    security: tuple[str, ...] = ()
    """Names of security schemes that override those of the endpoint."""
    terms: Terms = ()
    """Protocol terms by their idShort (``uav_browsePath``, ``htv_methodName``, …)."""


@dataclass(frozen=True, slots=True)
class Property:
    """One signal that the source offers (AID 1.1, PropertyDefinition)."""

    key: str
    """The source's own id of the signal; readings carry it as ``signal``."""
    type: str | None = None
    """JSON type: number, integer, string, boolean, object, array, null."""
    title: str | None = None
    unit: str | None = None
    """As the source names it; fuse turns it into UCUM."""
    observable: bool | None = None
    const: str | None = None
    default: str | None = None
    enum: tuple[str, ...] = ()
    minimum: str | None = None
    maximum: str | None = None
    value_semantics: str | None = None
    """An IRI or IRDI that says what the value means."""
    form: Form | None = None
    properties: tuple[Property, ...] = ()
    """Members of an object."""
    terms: Terms = ()
    """guantong's own terms (OWN_TERMS): category, type, path."""

    def term(self, name: str) -> str | None:
        """The value of one of guantong's own terms."""
        return dict(self.terms).get(name)


@dataclass(frozen=True, slots=True)
class SecurityScheme:
    """A security scheme by name; what it protects with is kept elsewhere, by base URL, never here."""

    name: str
    """``nosec_sc``, ``basic_sc``, ``opcua_channel_sc``, …"""
    scheme: str
    """``nosec``, ``basic``, ``uav_channelsec``, …"""
    terms: Terms = ()


NOSEC = SecurityScheme("nosec_sc", "nosec")


@dataclass(frozen=True, slots=True)
class Interface:
    """One configured source: the fields of an AID 1.1 interface.

    Raises ConfigProblem ``connect.secret-in-address`` for a base with user name or password, ``connect.kind-unknown``.
    """

    name: str
    """Name of the source, unique within the participant (idShort of the interface)."""
    kind: Kind
    """Which reader serves it (own term)."""
    base: str
    """Endpoint: ``shdr://host:7878``, ``http://host:5000/``, ``opc.tcp://host:4840``, ``file:///folder``."""
    title: str = ""
    created: str | None = None
    """RFC 3339."""
    modified: str | None = None
    support: str | None = None
    """URL of who helps."""
    content_type: str | None = None
    security: tuple[str, ...] = ("nosec_sc",)
    """Names of the schemes in force; each is defined in ``schemes``."""
    schemes: tuple[SecurityScheme, ...] = (NOSEC,)
    properties: tuple[Property, ...] = ()
    """What the source offers, with units and types. Empty: found out at the source. OPC UA reads these only; adapters and agents send
    what they send."""
    protocol: str = ""
    """Supplemental semantic id; filled from the kind where empty."""
    terms: Terms = ()
    """guantong's own terms (OWN_TERMS): device, interval_ms, count, pattern, …"""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigProblem("connect.kind-unknown", kind=self.kind, known=", ".join(KINDS))
        try:
            parts = urlsplit(self.base)
            secret = parts.username is not None or parts.password is not None
        except ValueError as error:
            raise ConfigProblem("connect.address-unusable", base=self.base[:200], reason=str(error)) from error
        if secret:
            raise ConfigProblem("connect.secret-in-address", name=self.name)
        if not self.protocol:
            object.__setattr__(self, "protocol", PROTOCOLS[self.kind])

    def term(self, name: str, default: str | None = None) -> str | None:
        """The value of one of guantong's own terms."""
        return dict(self.terms).get(name, default)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON with every field; :func:`from_json` is its inverse."""
        plain: dict[str, Any] = _plain(self)
        return plain

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Interface:
        """The interface of :meth:`to_json`."""
        return cls(
            **{
                **value,
                "security": tuple(value["security"]),
                "schemes": tuple(
                    SecurityScheme(item["name"], item["scheme"], _terms(item["terms"])) for item in value["schemes"]
                ),
                "properties": tuple(_property(item) for item in value["properties"]),
                "terms": _terms(value["terms"]),
            }
        )


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    return value


def _terms(value: Any) -> Terms:
    return tuple((str(name), str(text)) for name, text in value)


def _property(value: Mapping[str, Any]) -> Property:
    form = value["form"]
    return Property(
        **{
            **value,
            "enum": tuple(value["enum"]),
            "form": None
            if form is None
            else Form(**{**form, "security": tuple(form["security"]), "terms": _terms(form["terms"])}),
            "properties": tuple(_property(item) for item in value["properties"]),
            "terms": _terms(value["terms"]),
        }
    )


State = Literal["stopped", "connecting", "connected", "lost", "finished"]
"""``finished``: a file read to its end."""


@dataclass(frozen=True, slots=True)
class Scorecard:
    """How one source is doing, since this process started. Shown on the page and exported as metrics."""

    source: str
    kind: Kind
    base: str
    state: State
    connected: bool
    since: int
    """Since when the state holds (ns)."""
    rate_hz: float
    """Readings a second over the last ten seconds."""
    lag_s: float | None
    """Receive time minus source time of the newest reading delivered last; null before the first."""
    received: int
    """Readings (or rows) handed to the sink."""
    batches: int
    gaps: int
    """Missing sequence numbers, as far as they could be counted."""
    gap_records: int
    """Interruptions on record, counted or not."""
    duplicates: int
    """Sequence numbers that came again."""
    rejected: int
    """Lines or observations quarantined."""
    lines: int
    """Lines or documents read, where the source has such."""
    losses: int
    """How often the connection was lost."""
    last_error: str | None
    """Code of the last error."""
    last_error_at: int | None
    last_time: int | None
    """Receive time of the last reading (ns)."""
    position: int | None
    """Position in the durable log that the last batch got."""
    error_facts: Mapping[str, Any] = field(default_factory=dict)
    """Facts of the last error: what fills the places in its sentence."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a probe found behind an address, and the interface it proposes."""

    url: str
    interface: Interface
    offers: tuple[Property, ...]
    """What is offered; the interface takes all of it."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What the endpoint says of itself: product, version, instance, lines seen, encoding, delimiter, ..."""


@dataclass(frozen=True, slots=True)
class Imported:
    """Outcome of reading one file to its end."""

    source: str
    path: str
    form: str
    """shdr, mtconnect-streams, qif, csv, parquet."""
    digest: str
    """``sha256:`` and hex of the file's bytes."""
    size: int
    lines: int
    """Lines, observations or results, whichever the form counts."""
    parsed: int
    """Those that gave at least one row."""
    rows: int
    quarantined: int
    position: int | None
    """Position in the durable log of the last batch; null if the file held nothing."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Delimiter, encoding, date format and the like, as found; ``fields``: lines of an SHDR recording by their number of fields;
    ``quarantined``: the first thousand pieces that can't be used, each with offset, reason (QUARANTINE_REASONS) and text."""


@dataclass(frozen=True, slots=True)
class ConnectSettings:
    """Settings of the stage."""

    batch_rows: int = 10_000
    """Most readings gathered before a batch goes to the sink."""
    batch_wait_s: float = 0.25
    """Longest time a reading waits for company."""
    file_batch_rows: int = 50_000
    """Rows a batch when a file is read."""
    backoff_first_s: float = 0.1
    """First wait before a lost source is tried again; it doubles."""
    backoff_max_s: float = 2.0
    """Longest wait before a lost source is tried again."""
    connect_timeout_s: float = 5.0
    """Longest wait for a connection."""
    silence_s: float = 15.0
    """A source that should speak (heartbeat, keep-alive) and says nothing for so long counts as lost."""
    heartbeat_s: float = 5.0
    """How often an SHDR adapter is asked ``* PING`` before it has named its own interval."""
    line_bytes: int = 65_536
    """Longest line taken; the rest of a longer one is quarantined."""
    document_bytes: int = 64 * 1024 * 1024
    """Largest XML document taken."""
    file_bytes: int = 8 * 1024 * 1024 * 1024
    """Largest file taken."""
    folder_interval_s: float = 1.0
    """How often a watched folder is looked at."""
    bad_node_retry_s: float = 10.0
    """How often OPC UA nodes that a server does not know are looked up again."""
    stop_wait_s: float = 5.0
    """Longest wait for the sink when a source is stopped."""
    poll_s: float = 1.0
    """How often a source that must be asked (Modbus, S7, HTTP) is asked, unless its interface says."""
    poll_timeout_s: float = 3.0
    """Longest wait for one answer of such a source."""
    message_bytes: int = 1_048_576
    """Largest message (MQTT), answer (HTTP) or request (webhook) taken."""
    waiting_messages: int = 20_000
    """Most messages that wait to be read; then the broker is not read from until they are."""
    reorder_s: float = 2.0
    """How long a Sparkplug message that came too early waits for the one before it, until the node is asked for its birth."""
    quarantine_notes: int = 5_000
    """Most quarantined pieces noted in one batch; further ones go into further batches."""


_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}

SOURCE_ADDED = EntryKind(
    "connect.source-added",
    "A source was connected: its name, kind and the digest of its interface description.",
    "接入一个数据源：名称、类型及其接口描述的摘要。",
    {
        "type": "object",
        "additionalProperties": False,
        "required": ["source", "kind", "interface"],
        "properties": {"source": _TEXT, "kind": {"enum": list(KINDS)}, "interface": _TEXT},
    },
)
SOURCE_REMOVED = EntryKind(
    "connect.source-removed",
    "A source was disconnected.",
    "移除一个数据源。",
    {
        "type": "object",
        "additionalProperties": False,
        "required": ["source"],
        "properties": {"source": _TEXT},
    },
)
FILE_READ = EntryKind(
    "connect.file-read",
    "A file was read to its end: its digest, and how many lines, rows and quarantined pieces it held.",
    "读完一个文件：文件摘要，以及行数、数据行数和隔离条数。",
    {
        "type": "object",
        "additionalProperties": False,
        "required": ["source", "file", "form", "digest", "size", "lines", "rows", "quarantined"],
        "properties": {
            "source": _TEXT,
            "file": _TEXT,
            "form": _TEXT,
            "digest": _TEXT,
            "size": _COUNT,
            "lines": _COUNT,
            "rows": _COUNT,
            "quarantined": _COUNT,
        },
    },
)
_EDGE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["edge", "name"],
    "properties": {"edge": _TEXT, "name": _TEXT},
}
EDGE_ENROLLED = EntryKind(
    "connect.edge-enrolled",
    "A gateway in the machine network was let in with a one-time code.",
    "设备网中的网关凭一次性代码接入。",
    _EDGE,
)
EDGE_REMOVED = EntryKind(
    "connect.edge-removed",
    "A gateway may not deliver any more.",
    "取消网关的接入。",
    _EDGE,
)
ENTRY_KINDS: tuple[EntryKind, ...] = (EDGE_ENROLLED, EDGE_REMOVED, FILE_READ, SOURCE_ADDED, SOURCE_REMOVED)

QUARANTINE_REASONS: Mapping[str, tuple[str, str]] = {
    "asset": ("An asset command; assets are not read", "资产命令，不读取资产"),
    "bad-node": (
        "The server does not know this node, or refuses it; it is looked up again",
        "服务器不认识或拒绝该节点，会再次查找",
    ),
    "before-birth": ("Data of an edge node whose birth was not seen", "未收到出生报文的边缘节点所发数据"),
    "broken-by-wrap": ("The line was broken at the width of a screen", "该行在屏幕宽度处被截断"),
    "conflict": ("Two versions of the recording stand in one file", "同一文件中并存两个版本的记录"),
    "empty-key": ("A value without a key", "有值但没有键"),
    "fields": ("The number of fields fits no kind of line", "字段数与任何行格式都不符"),
    "hostile": ("The document declares entities", "文档声明了实体"),
    "not-a-number": ("A number was expected", "此处应为数值"),
    "not-finite": ("Not a finite number", "不是有限数值"),
    "not-text": ("Not text in the encoding used around it", "不是其所在处编码的文本"),
    "refused": ("The device refuses this item", "设备拒绝读取此项"),
    "time": ("No readable time", "时间无法读取"),
    "too-long": ("Longer than the limit", "超过长度上限"),
    "truncated": ("It ends in the middle", "中途截断"),
    "unknown-alias": ("An alias that no birth has named", "没有出生报文说明的别名"),
    "unreadable": ("Not well-formed", "格式不完整"),
    "unknown": ("A value of a kind that is not read", "不支持的值类型"),
}
"""Reasons in ``note['quarantined']`` with their words in English and Chinese."""

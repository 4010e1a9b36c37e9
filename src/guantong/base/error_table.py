"""Every error code once: kind, HTTP status, exit code, message and next step in English and Chinese.

Rows are grouped by the room that raises them and sorted within it. ``{name}`` is filled from the facts of the error. Exit codes:
1 refused, 2 a person must change something, 3 try again later, 4 bad input, 5 damaged storage, 6 verified but signer unknown.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["ERRORS", "ErrorRow"]


class ErrorRow(NamedTuple):
    """One row; ``kind`` names the branch of the tree in ``errors.py``."""

    kind: str
    status: int
    exit_code: int
    message_en: str
    hint_en: str
    message_zh: str
    hint_zh: str


# fmt: off
ERRORS: dict[str, ErrorRow] = {
    # base
    "base.extra-missing": ErrorRow(
        "config", 501, 2,
        "{feature} needs the extra “{extra}”, which is not installed.", 'Run: pip install "guantong[{extra}]"',
        "{feature} 需要扩展 {extra}，但尚未安装。", '请运行：pip install "guantong[{extra}]"'),
    "base.key-unreadable": ErrorRow(
        "config", 500, 2,
        "The key {name} can't be read.", "Restore the file from a back-up, or rotate the key.",
        "无法读取密钥 {name}。", "请从备份恢复该文件，或轮换密钥。"),
    "base.not-canonical": ErrorRow(
        "skip", 400, 4,
        "This value has no canonical form: {reason}.", "Send large integers and money as text, and no NaN or infinity.",
        "该值没有规范形式：{reason}。", "大整数和金额请用文本表示，不要使用 NaN 或无穷大。"),
    "base.note-malformed": ErrorRow(
        "skip", 400, 4,
        "This is not a signed note: {reason}.", "Ask its maker for a note in the C2SP signed-note format.",
        "这不是签名便笺：{reason}。", "请向出具方索取 C2SP signed-note 格式的便笺。"),
    "base.signature-bad": ErrorRow(
        "refused", 403, 1,
        "The signature of {signer} does not match.", "Ask the sender to send the original again; do not use these bytes.",
        "{signer} 的签名不符。", "请让发送方重新发送原件，不要使用这些数据。"),
    "base.time-unreadable": ErrorRow(
        "skip", 400, 4,
        "“{text}” is not a time.", "Write times as RFC 3339, for example 2026-11-24T08:00:00Z.",
        "“{text}” 不是时间。", "请按 RFC 3339 书写时间，例如 2026-11-24T08:00:00Z。"),
    # records
    "records.conflict": ErrorRow(
        "retry", 409, 3,
        "{table} {key} changed meanwhile; it is no longer {expected}.", "Read it again and decide anew.",
        "{table} {key} 在此期间已变化，不再是 {expected}。", "请重新读取后再决定。"),
    "records.disk-full": ErrorRow(
        "retry", 507, 3,
        "The records could not be written: {reason}.", "Free disk space; the step was not recorded and can be repeated.",
        "记录无法写入：{reason}。", "请腾出磁盘空间；该步骤未被记录，可以重做。"),
    "records.entry-too-large": ErrorRow(
        "config", 500, 2,
        "An evidence entry of kind {kind} has {size} bytes; at most 65,535 are allowed.", "Record a digest instead of the payload.",
        "类型为 {kind} 的存证条目有 {size} 字节，上限为 65,535。", "请记录摘要而不是内容本身。"),
    "records.limit-reached": ErrorRow(
        "refused", 403, 1,
        "The limit of {limit} for {name} is reached.", "Ask the provider for a new agreement if more is needed.",
        "{name} 已达到上限 {limit}。", "如需更多，请与提供方签订新的合约。"),
    "records.unopenable": ErrorRow(
        "corrupt", 500, 5,
        "The records at {url} can't be opened: {reason}.", "Check the path and the database server; restore from a back-up if damaged.",
        "无法打开位于 {url} 的记录库：{reason}。", "请检查路径和数据库服务；若已损坏请从备份恢复。"),
    "records.newer": ErrorRow(
        "config", 500, 2,
        "The records were written by a newer guantong (schema {found}; this one knows {known}).", "Install that version or newer.",
        "记录库由更新版本的 guantong 写入（结构 {found}，本版本只认识 {known}）。", "请安装该版本或更新版本。"),
    # connect
    # keep
    # fuse
    # describe
    # govern
    # exchange
    # prove
    # settle
    # value
    # watch
    # config
    # web
    # node
    # demo
    # cli
}
# fmt: on

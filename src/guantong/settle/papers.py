"""Papers for people: invoices, credit notes and contracts as HTML and as PDF with their fonts inside, in English and Chinese.

A paper is one neutral value; both forms are made of it. The PDF needs the extra ``pdf``: a library under MIT and Noto Sans SC under the
Open Font License, of which only the letters that are used go into the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from guantong.base.canonical import digest
from guantong.base.errors import ConfigProblem
from guantong.settle.ubl import Party

__all__ = ["Paper", "contract_paper", "html", "invoice_paper", "pdf"]


@dataclass(frozen=True, slots=True)
class Paper:
    """A printable document."""

    language: str
    title: str
    facts: tuple[tuple[str, str], ...]
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    sums: tuple[tuple[str, str], ...] = ()
    text: tuple[str, ...] = ()
    """Paragraphs."""
    places: tuple[str, ...] = ()
    """Where people sign."""
    foot: tuple[str, ...] = ()


_WORDS: Mapping[str, tuple[str, str]] = {
    "invoice": ("Invoice", "账单"),
    "credit-note": ("Credit note", "红字账单"),
    "contract": ("Data contract", "数据合约"),
    "number": ("Number", "编号"),
    "issued": ("Issued", "开具日期"),
    "of": ("To invoice", "对应账单"),
    "replaces": ("Replaces", "取代账单"),
    "provider": ("Provider", "提供方"),
    "consumer": ("Consumer", "使用方"),
    "registration": ("Registration number", "统一社会信用代码"),
    "agreement": ("Agreement", "合约编号"),
    "period": ("Period", "计费期间"),
    "currency": ("Currency", "币种"),
    "fapiao": ("Tax invoice (fapiao) number", "发票号码"),
    "item": ("Charged per", "计费项"),
    "quantity": ("Quantity", "数量"),
    "free": ("Free", "免费额度"),
    "price": ("Price", "单价"),
    "amount": ("Amount", "金额"),
    "subtotal": ("Subtotal", "小计"),
    "minimum": ("Raised to the minimum of the contract", "按合约最低金额计"),
    "cap": ("Lowered to the cap of the contract", "按合约封顶金额计"),
    "total": ("Total", "合计"),
    "dispute": ("After a dispute that both sides resolved", "双方已解决争议"),
    "service-level": ("The agreed service level was not reached", "未达到约定的服务水平"),
    "reason": ("Reason", "原因"),
    "tiers": ("by tiers", "阶梯价"),
    "signed": ("Signed electronically (Ed25519) by", "电子签名（Ed25519）"),
    "digest": ("Digest of the signed document", "已签名文件的摘要"),
    "records": ("Root over the usage receipts", "用量回执的根散列"),
    "derived": (
        "Both sides derived this from their own receipts; anybody with them comes to the same.",
        "双方各自由用量回执算出本账单；持有回执的任何人都能得出相同结果。",
    ),
    "no-fapiao": ("This is not a tax invoice.", "本账单不是税务发票。"),
    "policy": ("Permitted use", "许可的使用"),
    "terms": ("Terms", "合同条款"),
    "dataset": ("Dataset", "数据集"),
    "agreed": ("Agreed", "达成时间"),
    "hash": ("Digest of the agreement", "合约摘要"),
    "enforced": ("enforced by the system", "由系统执行"),
    "legal": ("a legal term", "法律条款"),
    "sign-provider": ("For the provider (signature, seal, date)", "提供方（签字、盖章、日期）"),
    "sign-consumer": ("For the consumer (signature, seal, date)", "使用方（签字、盖章、日期）"),
    "rule": ("Rule", "规则"),
    "force": ("How it is kept", "落实方式"),
}

_UNITS: Mapping[str, tuple[str, str]] = {
    "agreement": ("agreement", "合约"), "byte": ("byte", "字节"), "call": ("delivery", "次交付"), "figure": ("figure", "带证数"),
    "hour": ("hour", "小时"), "machine-hour": ("machine hour", "机时"), "month": ("month", "月"), "opening": ("opened chunk", "抽查数据块"),
    "part": ("part", "件"), "reading": ("reading", "读数"), "revenue": ("revenue", "收益"), "row": ("row", "行"), "transfer": ("transfer", "次传输"),
}  # fmt: skip


def invoice_paper(
    document: Mapping[str, Any],
    signatures: Sequence[Mapping[str, str]],
    provider: Party,
    consumer: Party,
    *,
    language: str = "zh",
    fapiao: str = "",
) -> Paper:
    """An invoice or credit note on paper. fapiao: number of the tax invoice; without one there is an empty field for it."""
    say = _speaker(language)
    unit = 1 if language.startswith("zh") else 0
    note = document["type"] == "credit-note"
    facts = [(say("number"), str(document["number"] or "–")), (say("issued"), str(document["issuedAt"])[:10])]
    if note:
        facts += [(say("of"), str(document["invoice"])), (say("reason"), say(str(document["reason"])))]
    elif document.get("replaces"):
        facts.append((say("replaces"), str(document["replaces"])))
    for role, party in (("provider", provider), ("consumer", consumer)):
        facts.append((say(role), f"{party.name}  {document[role]}"))
        if party.registration:
            facts.append((f"{say(role)} {say('registration')}", party.registration))
    facts.append((say("agreement"), str(document["agreementId"])))
    if document.get("period"):
        facts.append((say("period"), f"{document['period']['from']} – {document['period']['to']}"))
    facts += [(say("currency"), str(document["currency"])), (say("fapiao"), fapiao or "____________________")]
    head: tuple[str, ...] = (say("item"), say("quantity"), say("amount"))
    rows = [(_UNITS[line["per"]][unit], str(line["quantity"]), str(line["amount"])) for line in document["lines"]]
    if not note:
        head = (say("item"), say("quantity"), say("free"), say("price"), say("amount"))
        rows = [
            (
                _UNITS[line["per"]][unit],
                str(line["quantity"]),
                str(line["free"]),
                say("tiers") if line.get("tiers") else str(line["price"]),
                str(line["amount"]),
            )  # type: ignore[misc]
            for line in document["lines"]
        ]
    sums = [(f"{one['name']}（{one['reason']}）", f"−{one['amount']}") for one in document.get("discounts", ())]
    if document.get("adjusted"):
        sums.append((say(str(document["adjusted"])), str(document["subtotal"])))
    sums.append((say("subtotal"), str(document["subtotal"])))
    sums += [(str(tax["name"]), str(tax["amount"])) for tax in document["taxes"]]
    sums.append((say("total"), f"{document['total']} {document['currency']}"))
    foot = [say("derived")]
    if document.get("recordsRoot"):
        foot.append(f"{say('records')}: {document['recordsRoot']}")
    foot.append(f"{say('digest')}: {digest(dict(document))}")
    foot += [f"{say('signed')}: {one['by']}" for one in signatures]
    if not fapiao:
        foot.append(say("no-fapiao"))
    return Paper(language, say(document["type"]), tuple(facts), head, tuple(rows), tuple(sums), (), (), tuple(foot))


def contract_paper(
    *,
    agreement_id: str,
    agreement_hash: str,
    dataset: str,
    agreed_at: str,
    provider: Party,
    consumer: Party,
    rules: Sequence[tuple[str, str]],
    terms: str,
    price: Mapping[str, Any],
    language: str = "zh",
) -> Paper:
    """A contract on paper. rules: policy sentences with ``enforced`` or ``legal`` (``Exchange.explain``); price: the plan."""
    say = _speaker(language)
    unit = 1 if language.startswith("zh") else 0
    facts = [(say("agreement"), agreement_id), (say("agreed"), agreed_at), (say("dataset"), dataset)]
    for role, party in (("provider", provider), ("consumer", consumer)):
        facts.append((say(role), party.name + (f"  {party.registration}" if party.registration else "")))
    for charge in price.get("charges", ()):
        cost = "; ".join(f"{tier['from']}+: {tier['price']}" for tier in charge.get("tiers", ())) or str(
            charge["price"]
        )
        facts.append((say("price"), f"{cost} {price['currency']} / {_UNITS[charge['per']][unit]}"))
    for name in ("minimum", "cap"):
        if price.get(name) is not None:
            facts.append((say(name), f"{price[name]} {price['currency']}"))
    rows = tuple((sentence, say(force) if force in ("enforced", "legal") else force) for sentence, force in rules)
    text = (f"{say('terms')}:", *(terms.splitlines() or ["–"]))
    return Paper(
        language, say("contract"), tuple(facts), (say("rule"), say("force")), rows, (), text,
        (say("sign-provider"), say("sign-consumer")), (f"{say('hash')}: {agreement_hash}",),
    )  # fmt: skip


def _speaker(language: str) -> Any:
    place = 1 if language.startswith("zh") else 0
    return lambda name: _WORDS[name][place]


_STYLE = (
    "body{font:14px/1.5 'Noto Sans SC','PingFang SC','Microsoft YaHei',sans-serif;max-width:46em;margin:2em auto;padding:0 1em;color:#111}"
    "h1{font-size:1.6em}dl{display:grid;grid-template-columns:12em 1fr;gap:.2em 1em}dt{color:#555}dd{margin:0;overflow-wrap:anywhere}"
    "table{border-collapse:collapse;width:100%;margin:1.5em 0}th,td{border-bottom:1px solid #ccc;padding:.35em .5em;text-align:left}"
    "td+td,th+th{text-align:right}.sums{text-align:right}.sums b{display:inline-block;min-width:9em}footer{color:#555;font-size:.8em;"
    "overflow-wrap:anywhere}.sign{margin:3em 0 0;border-top:1px solid #111;width:45%;display:inline-block}@media print{body{margin:0}}"
)


def html(paper: Paper) -> str:
    """One HTML page that needs nothing else; prints on A4."""
    lang = "zh-CN" if paper.language.startswith("zh") else "en"
    parts = [
        f'<!doctype html><html lang="{lang}"><head><meta charset="utf-8"><title>{escape(paper.title)}</title>',
        f"<style>{_STYLE}</style></head><body><h1>{escape(paper.title)}</h1><dl>",
        *(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in paper.facts),
        "</dl>",
    ]
    if paper.head:
        parts.append(
            "<table><thead><tr>" + "".join(f"<th>{escape(one)}</th>" for one in paper.head) + "</tr></thead><tbody>"
        )
        parts += ["<tr>" + "".join(f"<td>{escape(one)}</td>" for one in row) + "</tr>" for row in paper.rows]
        parts.append("</tbody></table>")
    parts += [f'<p class="sums">{escape(name)} <b>{escape(value)}</b></p>' for name, value in paper.sums]
    parts += [f"<p>{escape(one)}</p>" for one in paper.text]
    parts += [f'<p class="sign">{escape(one)}</p>' for one in paper.places]
    parts += ["<footer>", *(f"<p>{escape(one)}</p>" for one in paper.foot), "</footer></body></html>"]
    return "".join(parts)


_WIDE, _HIGH, _EDGE, _SIZE = 595.0, 842.0, 50.0, 10.0


def pdf(paper: Paper) -> bytes:
    """The same as PDF on A4, fonts inside. Raises ConfigProblem ``base.extra-missing``."""
    try:
        import pylopdf
        import pylopdf_fonts_zh_cn  # noqa: F401 - the font that the language names
    except ImportError as error:
        raise ConfigProblem("base.extra-missing", feature="PDF", extra="pdf") from error
    document = pylopdf.Document()
    try:
        press = _Press(document, pylopdf.Font(language="zh-CN"))
        press.line(paper.title, size=18)
        press.space(8)
        for name, value in paper.facts:
            press.pair(name, value)
        press.space(10)
        if paper.head:
            press.row(paper.head)
            press.rule()
            for row in paper.rows:
                press.row(row)
            press.rule()
        for name, value in paper.sums:
            press.right(f"{name}    {value}")
        for one in paper.text:
            press.line(one)
        if paper.places:
            press.space(60)
            for one in paper.places:
                press.rule(half=True)
                press.line(one)
                press.space(50)
        press.space(10)
        for one in paper.foot:
            press.line(one, size=7.5)
        document.set_metadata({"title": paper.title, "producer": "guantong"})
        return bytes(document.tobytes())
    finally:
        document.close()


class _Press:
    """Sets lines one below the other, on as many pages as it takes."""

    def __init__(self, document: Any, font: Any) -> None:
        self._document = document
        self._font = font
        self._page: Any = None
        self._y = _HIGH

    def line(self, text: str, *, size: float = _SIZE, left: float = _EDGE) -> None:
        for piece in self._wrapped(text, _WIDE - _EDGE - left, size):
            self._down(size)
            self._put(left, piece, size)

    def pair(self, name: str, value: str) -> None:
        pieces = self._wrapped(value, _WIDE - 2 * _EDGE - 130, _SIZE)
        for at, piece in enumerate(pieces):
            self._down(_SIZE)
            if not at:
                self._put(_EDGE, name, _SIZE)
            self._put(_EDGE + 130, piece, _SIZE)

    def row(self, cells: Sequence[str]) -> None:
        """The first column to the left, the others to the right of even columns."""
        first = (_WIDE - 2 * _EDGE) * (0.7 if len(cells) == 2 else 0.28)
        other = (_WIDE - 2 * _EDGE - first) / max(1, len(cells) - 1)
        head = self._wrapped(cells[0], first - 8, _SIZE)
        for at, piece in enumerate(head):
            self._down(_SIZE)
            self._put(_EDGE, piece, _SIZE)
            for column, cell in enumerate(cells[1:], 1) if not at else ():
                self._put(_EDGE + first + column * other - self._length(cell, _SIZE), cell, _SIZE)

    def right(self, text: str) -> None:
        for piece in self._wrapped(text, _WIDE - 2 * _EDGE, _SIZE):
            self._down(_SIZE)
            self._put(_WIDE - _EDGE - self._length(piece, _SIZE), piece, _SIZE)

    def rule(self, *, half: bool = False) -> None:
        self._down(2)
        right = _EDGE + (_WIDE - 2 * _EDGE) * (0.5 if half else 1)
        self._page.draw_line((_EDGE, self._y), (right, self._y))

    def space(self, height: float) -> None:
        self._y += height

    def _down(self, size: float) -> None:
        self._y += size * 1.55
        if self._y > _HIGH - _EDGE:
            self._page = self._document.new_page(width=_WIDE, height=_HIGH)
            self._y = _EDGE + size

    def _put(self, left: float, text: str, size: float) -> None:
        if text.strip():
            self._page.insert_text((left, self._y), [text], fontsize=size, font=self._font)

    def _length(self, text: str, size: float) -> float:
        return float(self._font.text_length(text, fontsize=size))

    def _wrapped(self, text: str, width: float, size: float) -> list[str]:
        """Lines that fit; Chinese and long digests break anywhere."""
        text = " ".join(text.split()) or " "
        lines, start = [], 0
        while start < len(text):
            end = start + 1
            low, high = start + 1, len(text)
            while low <= high:
                middle = (low + high) // 2
                if self._length(text[start:middle], size) <= width:
                    end, low = middle, middle + 1
                else:
                    high = middle - 1
            gap = text.rfind(" ", start + 1, end) if end < len(text) else -1
            end = gap if gap > start + (end - start) // 2 else end
            lines.append(text[start:end].strip())
            start = end
        return lines

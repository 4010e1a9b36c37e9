"""What a verifier says: its checks, its verdict, what is proven and what is not, in both languages. Values and words only."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

__all__ = ["NOT_OK", "OK", "SIGNER_UNKNOWN", "UNREADABLE", "Check", "Report", "in_chinese"]

OK, NOT_OK, UNREADABLE, SIGNER_UNKNOWN = 0, 1, 4, 6
"""Exit codes."""

_VERDICTS: dict[str, tuple[str, str]] = {
    "ok": ("ok: this package verifies", "通过：存证包核验无误"),
    "signer-unknown": (
        "consistent, signer unknown: nothing in it was changed, but who signed it is not confirmed; give --trust",
        "内容一致，签名者身份未知：包内没有改动，但无法确认是谁签的；请使用 --trust",
    ),
    "not-ok": ("not ok: do not rely on this package", "未通过：请勿采信该存证包"),
    "fork ok": ("ok: the log was forked, and this proves it", "通过：该日志被分叉，此文件即为证明"),
    "fork signer-unknown": (
        "consistent, signer unknown: if these checkpoints are signed by the log, it was forked; give --trust",
        "内容一致，签名者身份未知：若这些检查点确由该日志签署，则它已被分叉；请使用 --trust",
    ),
    "guest ok": (
        "ok: the guest signed every statement, and its host's log holds them",
        "通过：每份声明均由访客方签名，且在其所在节点的日志中",
    ),
    "guest signer-unknown": (
        "consistent, signer unknown: whose log holds these statements is not confirmed; give --trust",
        "内容一致，签名者身份未知：无法确认这些声明在谁的日志中；请使用 --trust",
    ),
    "guest not-ok": ("not ok: do not rely on these papers", "未通过：请勿采信这些文件"),
    "fork not-ok": ("not ok: this does not prove a fork", "未通过：这不能证明日志被分叉"),
}

_CHECKS = {
    "container": ("The file has the one form a package has", "文件结构唯一且完整"),
    "manifest": ("The manifest's signature matches", "清单签名相符"),
    "files": ("Every file is listed and is what the manifest says", "每个文件都在清单之中且与清单一致"),
    "maker": ("The maker's key is one you trust", "出具方密钥在您的信任文件之中"),
    "checkpoint": ("The checkpoint is signed by the maker's log", "检查点由出具方的日志签名"),
    "witnesses": ("Enough witnesses cosigned the checkpoint", "会签检查点的见证方达到要求"),
    "keys": ("No key is used after it was rotated or lost", "没有密钥在轮换或丢失之后仍被使用"),
    "company": ("Every company certificate stands for the key it names", "每份单位证书均为其所列密钥背书"),
    "entries": ("Every entry lies in the log under the checkpoint", "每个条目都在检查点之下的日志中"),
    "anchors": ("Every anchor holds and is of this history", "每个锚定均成立且属于同一份历史"),
    "agreement": ("The agreement is the one the log recorded", "合约与日志记录一致"),
    "receipts": ("Every receipt carries the signatures it claims", "每份回执的签名均属实"),
    "invoices": ("Every invoice follows from price plan and receipts", "每张账单均可由价格方案和回执重新算出"),
    "disputes": ("Every dispute is signed and on record", "每项争议均有签名并已记录在案"),
    "credit-notes": (
        "Every credit note follows from what was settled, or the service level",
        "每张红字账单均可由双方商定的数量或服务水平重新算出",
    ),
}

_CHECKS |= {
    "fork-file": ("The file is a proof of a fork", "文件是日志分叉证明"),
    "fork-signatures": ("Both checkpoints are signed by the log", "两份检查点均由该日志签名"),
    "fork": ("The two checkpoints can't be of one history", "两份检查点不可能属于同一份历史"),
}

_CHECKS |= {
    "guest-file": ("The file is a guest's papers", "文件是访客方的文件"),
    "guest-statements": (
        "Every statement is signed by the guest and follows the one before it",
        "每份声明均由访客方签名且前后相接",
    ),
    "guest-entries": ("Every statement lies in the host's log", "每份声明都在所在节点的日志中"),
    "guest-host": ("The host's log is one you trust", "所在节点的日志在您的信任文件之中"),
}

_NOT_PROVEN = (
    ("that the sensor told the truth", "传感器如实反映了实际情况"),
    ("that the record is complete, if the meter was bypassed", "计量未被绕过、记录没有缺漏"),
    ("that a party deleted data it says it deleted", "某一方确已删除其声称删除的数据"),
)


@dataclass(frozen=True, slots=True)
class Check:
    """One check: its name in the table above, whether it held, and the reason if not (or a remark if it did)."""

    name: str
    ok: bool | None
    """None: could not be decided without a trust file."""
    reason: str = ""

    def say(self, language: str) -> str:
        """The check as a sentence."""
        if language == "zh":
            return _CHECKS[self.name][1] + (f"：{in_chinese(self.reason)}" if self.reason else "")
        return _CHECKS[self.name][0] + (f": {self.reason}" if self.reason else "")


@dataclass(slots=True)
class Report:
    """What the verifier found."""

    checks: list[Check] = field(default_factory=list)
    trusted: bool = False
    """Whether a trust file was given."""
    agreement_id: str | None = None
    maker: str | None = None
    made_at: str | None = None
    entries: int = 0
    receipts: dict[str, int] = field(default_factory=dict)
    """Number by state: ``acknowledged``, ``disputed``, ``one-sided``, ``offered``."""
    invoices: list[dict[str, str]] = field(default_factory=list)
    """number, currency, total, signed (by how many)."""
    credits: list[dict[str, str]] = field(default_factory=list)
    """Credit notes: number, invoice, currency, total, signed (by how many)."""
    signers: list[str] = field(default_factory=list)
    """DIDs whose signatures on receipts and invoices were verified."""
    cosigners: list[tuple[str, str]] = field(default_factory=list)
    """(name of the witness key, time it states)."""
    anchors: list[dict[str, Any]] = field(default_factory=list)
    """kind, at, by, confirmed: whether the trust file names authority, or contract and block."""
    scope: dict[str, str] = field(default_factory=dict)
    """``transfer``, ``from``, ``to`` where the package holds a part of the agreement."""
    kind: str = "package"
    """``package``, ``fork`` for the proof that a log has two histories, or ``guest`` for a guest's papers."""
    known_at: str | None = None
    """When what is in here was known to witnesses at the latest."""

    @property
    def verdict(self) -> str:
        """``ok``, ``signer-unknown`` or ``not-ok``."""
        if not self.checks or any(check.ok is False for check in self.checks):
            return "not-ok"
        return "ok" if self.trusted and all(check.ok for check in self.checks) else "signer-unknown"

    @property
    def exit_code(self) -> int:
        """0 ok, 1 not ok, 6 consistent but signer unknown."""
        return {"ok": OK, "signer-unknown": SIGNER_UNKNOWN, "not-ok": NOT_OK}[self.verdict]

    def proven(self) -> list[tuple[str, str]]:
        """What the package proves, by whom and when, in both languages. Empty unless the verdict is ok."""
        if self.verdict != "ok":
            return []
        if self.kind == "fork":
            return [
                (
                    f"{self.maker} signed two histories; what its log says proves nothing since the first of the two sizes",
                    f"{self.maker} 签署了两份不同的历史；自较小的那份检查点起，其日志所载不再具有证明力",
                )
            ]
        if self.kind == "guest":
            return [
                (
                    f"{self.checks[0].reason} signed these statements, and {self.maker} has recorded each of them",
                    f"{self.checks[0].reason} 签署了这些声明，且 {self.maker} 已逐一记录",
                )
            ]
        found = [
            (
                f"{self.maker} recorded {self.entries} entries about agreement {self.agreement_id}; none was changed since",
                f"{self.maker} 就合约 {self.agreement_id} 记录了 {self.entries} 个条目，此后均未改动",
            )
        ]
        if self.known_at:
            names = ", ".join(name for name, _ in self.cosigners)
            found.append(
                (
                    f"they existed at the latest at {self.known_at}, say {names}",
                    f"最迟在 {self.known_at} 已经存在，见证方：{names}",
                )
            )
        found += [
            (
                f"they existed at the latest at {item['at']}, says {item['by']}",
                f"最迟在 {item['at']} 已经存在，锚定方：{item['by']}",
            )
            for item in self.anchors
            if item["confirmed"]
        ]
        if self.scope:
            part = ", ".join(f"{name} {value}" for name, value in self.scope.items())
            found.append(
                (
                    f"this is a part of the agreement's records only: {part}",
                    f"本包只含该合约的一部分记录：{part}",
                )
            )
        count = self.receipts.get("acknowledged", 0)
        if count:
            found.append((f"{count} usage records were signed by both sides", f"{count} 份用量记录由双方签名"))
        count = self.receipts.get("one-sided", 0) + self.receipts.get("offered", 0)
        if count:
            found.append((f"{count} usage records were signed by one side only", f"{count} 份用量记录仅由一方签名"))
        count = self.receipts.get("disputed", 0)
        if count:
            found.append((f"{count} usage records are disputed by the consumer", f"{count} 份用量记录被使用方提出异议"))
        found += [
            (
                f"invoice {item['number'] or '–'} over {item['total']} {item['currency']} follows from them, signed by {item['signed']}",
                f"账单 {item['number'] or '–'}（{item['total']} {item['currency']}）可由此算出，签名方数：{item['signed']}",
            )
            for item in self.invoices
        ]
        found += [
            (
                f"credit note {item['number']} gives back {item['total']} {item['currency']} of invoice {item['invoice']}, signed by {item['signed']}",
                f"红字账单 {item['number']} 就账单 {item['invoice']} 退还 {item['total']} {item['currency']}，签名方数：{item['signed']}",
            )
            for item in self.credits
        ]
        return found

    def document(self) -> dict[str, Any]:
        """JSON for programs."""
        return {
            "verdict": self.verdict,
            "exitCode": self.exit_code,
            "agreementId": self.agreement_id,
            "maker": self.maker,
            "madeAt": self.made_at,
            "entries": self.entries,
            "receipts": self.receipts,
            "invoices": self.invoices,
            "credits": self.credits,
            "signers": self.signers,
            "cosigners": [{"witness": name, "at": at} for name, at in self.cosigners],
            "knownAt": self.known_at,
            "kind": self.kind,
            "scope": self.scope,
            "anchors": self.anchors,
            "checks": [
                {
                    "name": check.name,
                    "ok": check.ok,
                    "reason": check.reason,
                    "en": check.say("en"),
                    "zh": check.say("zh"),
                }
                for check in self.checks
            ],
            "proven": [{"en": en, "zh": zh} for en, zh in self.proven()],
            "notProven": [{"en": en, "zh": zh} for en, zh in _NOT_PROVEN],
        }

    def text(self, language: str = "en") -> str:
        """The report for people."""
        zh = language == "zh"
        marks = {True: "✓", False: "✗", None: "?"}
        lines = [_VERDICTS[self.verdict if self.kind == "package" else f"{self.kind} {self.verdict}"][zh], ""]
        lines += [f"  {marks[check.ok]} {check.say(language)}" for check in self.checks]
        proven = self.proven()
        if proven:
            lines += ["", "已证明：" if zh else "Proven:", *(f"  · {item[zh]}" for item in proven)]
        lines += ["", "不能证明：" if zh else "Not proven:", *(f"  · {item[zh]}" for item in _NOT_PROVEN)]
        return "\n".join(lines) + "\n"


_ZH: tuple[tuple[str, str], ...] = (
    (r"no trust file was given", "未提供信任文件"),
    (r"no trust file was given; unconfirmed: (.+)", "未提供信任文件，以下未经确认：{0}"),
    (r"the policy asks for none", "策略未要求见证"),
    (r"no key known for (.+)", "没有 {0} 的密钥"),
    (r"there is no entry in the package", "包内没有日志条目"),
    (r"there is no (.+)", "缺少 {0}"),
    (r"(.+) is missing", "缺少 {0}"),
    (r"(.+) is not listed", "{0} 不在清单之中"),
    (r"(.+) was changed", "{0} 已被改动"),
    (r"the trust file does not list this key of (.+)", "信任文件中没有 {0} 的这把密钥"),
    (r"the trust file does not list the log (.+)", "信任文件中没有日志 {0}"),
    (r"the trust file does not list (.+)", "信任文件中没有 {0}"),
    (r"the entries are proven under different checkpoints", "各条目的证明所依据的检查点不一致"),
    (r"policy.txt names another log than the maker's", "policy.txt 所列日志不是出具方的日志"),
    (r"the checkpoint is of another log", "检查点属于另一份日志"),
    (r"a cosignature states a time that lies in the future", "会签所载时间在未来"),
    (r"the quorum of the policy is not met", "会签的见证方数量未达到策略要求"),
    (r"an entry lacks its proof, or a proof its entry", "有条目缺少证明，或有证明缺少条目"),
    (r"(.+) proves entry (.+)", "{0} 证明的是条目 {1}"),
    (r"(.+) does not lie in the log", "{0} 不在日志之中"),
    (r"(.+) is no entry of the maker's log", "{0} 不是出具方日志的条目"),
    (r"(.+) is about another agreement", "{0} 属于另一份合约"),
    (r"(.+) lies outside what the package is about", "{0} 不在本包所述范围之内"),
    (r"(.+) anchors another log", "{0} 锚定的是另一份日志"),
    (r"(.+) is older than an entry", "{0} 早于某个条目"),
    (r"(.+) is not of the history in this package", "{0} 不属于本包所载的历史"),
    (r"there is none", "没有"),
    (r"(.+) of (.+) unconfirmed: (.+)", "{1} 个中有 {0} 个未经确认：{2}"),
    (r"agreement.json is another agreement", "agreement.json 是另一份合约"),
    (r"the maker is not a party of the agreement", "出具方不是合约的当事方"),
    (r"the log records no such agreement", "日志中没有这份合约的记录"),
    (r"the price is not the one bound into the agreement", "价格方案与合约所绑定的不一致"),
    (r"the terms is not the one bound into the agreement", "条款与合约所绑定的不一致"),
    (r"(.+) is not in the log", "{0} 没有记入日志"),
    (r"(.+) is there twice", "{0} 出现了两次"),
    (r"(.+) usage records of the log have no receipt in the package", "日志中有 {0} 份用量记录在包内没有回执"),
    (r"(.+) names other parties than the agreement", "{0} 的当事方与合约不同"),
    (r"the countersignature in (.+) belongs to another record", "{0} 中的回签属于另一份记录"),
    (r"the signature of (.+) in (.+) does not match", "{1} 中 {0} 的签名不符"),
    (r"(.+) does not follow from price plan and receipts", "{0} 无法由价格方案和回执算出"),
    (r"(.+) credits an invoice that is not in the package", "{0} 所冲减的账单不在包内"),
    (r"(.+) rests on a resolution that is not in the package", "{0} 所依据的商定结果不在包内"),
    (r"(\d+), (\d+) resolved", "共 {0} 项，已商定 {1} 项"),
    (r"(.+) has a signature of another form", "{0} 的签名格式不同"),
    (r"(.+) is signed with another key than the evidence key", "{0} 未用存证密钥签名"),
    (r"(.+) is signed by somebody who is no party, or twice by one", "{0} 由非当事方签名，或同一方签了两次"),
    (r"(.+) is not signed", "{0} 没有签名"),
    (r"(.+) is not canonical JSON with the members it should have", "{0} 不是成员齐全的规范 JSON"),
    (r"this is no package", "这不是存证包"),
    (r"the archive is cut off", "文件不完整"),
    (r"the archive has another form than packages have", "文件结构与存证包不同"),
    (r"the manifest's signature does not match", "清单签名不符"),
    (r"it is signed with a key that counts no more since (.+)", "签名所用密钥自 {0} 起已作废"),
    (r"the key was changed later, at (.+)", "密钥在此之后才变更（{0}）"),
    (
        r"the key counts no more since (.+), and no witness says that this is older",
        "密钥自 {0} 起作废，且没有见证方证明本包更早",
    ),
    (r"the SM3 digest in (.+) does not match", "{0} 中的 SM3 摘要不符"),
    (r"the company certificate stands for another key", "单位证书背书的是另一把密钥"),
    (r"the manifest (.+)", "清单有误（{0}）"),
    (r"(.+): only the digest is known", "{0}：仅知其摘要"),
)


def in_chinese(reason: str) -> str:
    """What the verifier says about a check, in Chinese; figures, names and rarer sentences stay as they are."""
    for pattern, zh in _ZH:
        match = re.fullmatch(pattern, reason)
        if match is not None:
            return zh.format(*match.groups())
    return reason

"""What goes into a package: leaves with proofs, papers, policy, instructions in two languages, and the verifier itself."""

from __future__ import annotations

import ast
import importlib.util
import os
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from guantong.base.note import VerifierKey
from guantong.prove import rules

__all__ = ["files", "page", "verifier", "write"]

PAGE = ("verify.html", "verify.js")
"""The page that verifies in a browser, and its script: as the node serves them, and in every package."""
PYZ = "verify.pyz"
_ENTRY_POINT = "guantong.verify"
_MAIN = b"""import sys

from guantong.verify import main

if __name__ == "__main__":
    sys.exit(main())
"""

README_EN = """# Package about agreement {agreement}

Made by {maker}. It holds the agreement, the usage receipts, the invoices, and every entry of the maker's evidence log about this
agreement, each with its proof under a signed checkpoint.

## Verify

With Python 3.11 or newer and the package `cryptography` (no network, no account):

    python verify.pyz --trust KEYS {name}

Or open `verify.html` in a browser, choose this package and give it the keys. The page sends nothing anywhere; time stamps, chain
anchors and the amounts of invoices are left to `verify.pyz`.

KEYS is a trust file with the keys of the parties and witnesses that you have checked with them yourself (`guantong trust export`).
Without it the answer is at most "consistent, signer unknown". Somebody who could change this package could also change the
verifiers inside it: in a dispute take them from the guantong release, from a node that you trust (`/verify`), or use your own copy
(`guantong verify`).

## What it proves

What was claimed and countersigned, that it has not changed since, and when it was known at the latest.

## What it does not prove

That the sensor told the truth, that the record is complete if the meter was bypassed, or that a party deleted data.

## Formats

`log/*.tlog-proof`, `policy.txt` and checkpoints are C2SP tlog-proof@v1, tlog-policy and signed notes; `*.json` is canonical JSON
(RFC 8785); the tree is RFC 6962 with SHA-256. Other people's tools read them.
"""

README_ZH = """# 关于合约 {agreement} 的存证包

出具方：{maker}。包内有合约、用量回执、发票，以及出具方存证日志中与本合约有关的全部条目，每条都附有签名检查点之下的证明。

## 如何核验

需要 Python 3.11 或更新版本以及 `cryptography` 软件包，无需联网，无需账号：

    python verify.pyz --trust KEYS {name}

也可用浏览器打开 `verify.html`，选择本包并提供密钥；页面不向外发送任何内容。时间戳、链上锚定和账单金额仍由 `verify.pyz` 核验。

KEYS 是信任文件，写有您亲自向各方和见证方核对过的密钥（用 `guantong trust export` 导出）。没有它，结论最多是“内容一致，签名者身份未知”。
能改动本包的人也能改动包内的核验程序：发生争议时，请使用贯通正式发布的核验程序、您信任的节点上的 `/verify` 页面，或您自己安装的
`guantong verify`。

## 能证明什么

当时声明并会签了什么，此后没有改动，以及最迟何时已为他人所知。

## 不能证明什么

传感器是否如实，计量被绕过时记录是否完整，某一方是否已删除数据。

## 格式

`log/*.tlog-proof`、`policy.txt` 和检查点采用 C2SP 的 tlog-proof@v1、tlog-policy 和 signed-note；`*.json` 为规范 JSON（RFC 8785）；
默克尔树按 RFC 6962，摘要算法为 SHA-256。其他人的工具也能读取。
"""


def files(
    *,
    participant: str,
    agreement_id: str,
    documents: Mapping[str, bytes],
    extra: Mapping[str, bytes],
    entries: Sequence[tuple[int, bytes, bytes]],
    log_key: VerifierKey,
    witnesses: Sequence[tuple[str, VerifierKey]],
    name: str = "PACKAGE.guantong.zip",
) -> dict[str, bytes]:
    """Every file but the manifest. entries: (index, leaf, proof). Raises ValueError where two files want one path."""
    found: dict[str, bytes] = {}
    words = {"agreement": agreement_id, "maker": participant, "name": name}
    parts: list[Mapping[str, bytes]] = [
        documents,
        extra,
        {f"log/{number:012d}.json": leaf for number, leaf, _ in entries},
        {f"log/{number:012d}.tlog-proof": proof for number, _, proof in entries},
        {
            "README.md": README_EN.format(**words).encode(),
            "README.zh-CN.md": README_ZH.format(**words).encode(),
            "policy.txt": rules.policy_text(log_key, [key for _, key in witnesses]).encode(),
            PYZ: verifier(),
            **{name: page(name) for name in PAGE},
        },
    ]
    for part in parts:
        for path, data in part.items():
            if path in found or path == rules.MANIFEST:
                raise ValueError(f"two files of the package want the path {path}")
            found[path] = data
    return found


@cache
def page(name: str) -> bytes:
    """A file of :data:`PAGE`."""
    return (Path(__file__).parent / "page" / name).read_bytes().replace(b"\r\n", b"\n")


@cache
def verifier() -> bytes:
    """``verify.pyz``: our own modules that the verifier imports, and ``rfc8785``, in one runnable archive with one possible form."""
    sources = _modules(_ENTRY_POINT)
    sources["__main__.py"] = _MAIN
    return rules.write_zip(sources)


def _modules(entry: str) -> dict[str, bytes]:
    """Sources of a module and of everything of ``guantong`` and ``rfc8785`` that it imports at module level, and their packages."""
    found: dict[str, bytes] = {}
    waiting, seen = [entry], set()
    while waiting:
        name = waiting.pop()
        if name in seen or name.split(".")[0] not in ("guantong", "rfc8785"):
            continue
        seen.add(name)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            continue
        source = Path(spec.origin).read_bytes()
        path = name.replace(".", "/") + ("/__init__.py" if spec.submodule_search_locations is not None else ".py")
        found[path] = source.replace(b"\r\n", b"\n")
        package = name if spec.submodule_search_locations is not None else name.rpartition(".")[0]
        waiting.append(name.rpartition(".")[0])
        for node in ast.parse(source).body:
            if isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    base = ".".join(
                        filter(None, (package.rsplit(".", node.level - 1)[0] if node.level > 1 else package, base))
                    )
                waiting.append(base)
                if base.split(".")[0] in ("guantong", "rfc8785"):
                    waiting += [f"{base}.{alias.name}" for alias in node.names if _is_module(f"{base}.{alias.name}")]
    return found


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def write(path: Path, data: bytes) -> None:
    """Write a file durably and whole, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".package-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise

"""The journey of industrial data: ten stages, in order, each said once.

README, menu, documentation and the import contract read this tuple; the module itself imports nothing of ours, so that anything
may read it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stage:
    """One station on the line."""

    name: str
    """Room and verb, as the folder under ``guantong``."""
    zh: str
    """Chinese verb, two characters, as the pages show it."""
    mark: str
    """One character for the station's sign."""
    sentence_en: str
    """What goes in and what comes out, in one plain sentence."""
    sentence_zh: str
    """The same, in Chinese."""


JOURNEY: tuple[Stage, ...] = (
    Stage(
        "connect",
        "接入",
        "接",
        "Reads machines and systems through their own interfaces into batches of readings, each with its source time, status and sequence.",
        "通过设备和系统自身的接口读取数据，成批产出读数，每条都带有源时间、状态码和序号。",
    ),
    Stage(
        "keep",
        "留存",
        "存",
        "Writes every batch to a durable log before anything else sees it, then into tables that open tools can read.",
        "每一批数据先写入持久日志，再进入任何开放工具都能读取的数据表。",
    ),
    Stage(
        "fuse",
        "融合",
        "融",
        "Makes one chain of many sources: clocks, units, names, duplicates and parts are reconciled, each correction on record.",
        "把多个来源融合成一条数据链：校准时钟、统一单位与名称、剔除重复、对应零件，每项修正都有记录。",
    ),
    Stage(
        "describe",
        "描述",
        "述",
        "Describes each machine, part and dataset as an Asset Administration Shell and a catalogue entry, with lineage both ways.",
        "用资产管理壳和数据目录描述每台设备、每个零件和每个数据集，血缘可双向追溯。",
    ),
    Stage(
        "govern",
        "治理",
        "治",
        "Classifies, grades and scores the data with reasons, states who holds which right, and decides every access.",
        "给出理由地对数据分类、分级、评分，写明各方权利，并裁决每一次访问。",
    ),
    Stage(
        "exchange",
        "交换",
        "通",
        "Offers data as products and carries them to partners under contract over the Dataspace Protocol, with receipts signed by both sides.",
        "把数据做成产品，通过数据空间协议按合约交付给伙伴，双方在回执上签名。",
    ),
    Stage(
        "prove",
        "存证",
        "证",
        "Puts every recorded step into a transparency log, has it witnessed, and packs proofs that strangers verify with their own tools.",
        "把每一步记录写入透明日志并由他方见证，打包成外人用自己的工具就能验证的证据。",
    ),
    Stage(
        "settle",
        "结算",
        "算",
        "Turns receipts into invoices that both sides derive for themselves; a difference is a dispute that names the receipts.",
        "由回执计算账单，双方各自得出；若有差异即为争议，并指明是哪几张回执。",
    ),
    Stage(
        "value",
        "估值",
        "估",
        "States what the data cost, in a ledger of its own, and appraises what it is worth, with every factor traced.",
        "在独立账本中列明数据成本，并评估其价值，每个系数都可追溯。",
    ),
    Stage(
        "watch",
        "观察",
        "察",
        "Reads the chain for availability, quality, energy and carbon, warns early, and tells how long supply lasts.",
        "从数据链中读出可用率、质量、能耗与碳排放，提前预警，并给出供应可维持的时间。",
    ),
)

ORDER: tuple[str, ...] = ("base", "records", *(stage.name for stage in JOURNEY), "config", "web", "node", "demo", "cli")
"""Rooms from the floor up: each may import only those before it."""

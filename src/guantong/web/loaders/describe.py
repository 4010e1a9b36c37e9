"""What the pages of describe show: shells, datasets, and lineage both ways."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from guantong.web.ask import Ask, cut, found, time_of
from guantong.web.loaders.fuse import signal_of
from guantong.web.loaders.govern import grade_of, quality_of, rights_of
from guantong.web.loaders.labels import labels
from guantong.web.rooms import Rooms

__all__ = ["dataset", "dataset_of", "lineage", "overview"]


def dataset_of(one: Any) -> dict[str, Any]:
    """A dataset as plain JSON."""
    return {
        "id": one.id,
        "title_en": one.title_en,
        "title_zh": one.title_zh,
        "description": one.description,
        "kind": one.kind,
        "signals": list(one.signals),
        "models": list(one.models),
        "keywords": list(one.keywords),
        "sources": list(one.sources),
        "start": time_of(one.start),
        "end": time_of(one.end),
    }


def _shell(one: Mapping[str, Any]) -> dict[str, Any]:
    asset: Any = one.get("assetInformation") or {}
    submodels: Any = one.get("submodels") or []
    ids = [keys[-1].get("value", "") for keys in ((item or {}).get("keys") or [{}] for item in submodels)]
    identity = str(one.get("id", ""))
    encoded = base64.urlsafe_b64encode(identity.encode()).decode().rstrip("=")
    return {
        "id": identity,
        "name": str(one.get("idShort") or identity),
        "asset": str(asset.get("globalAssetId") or ""),
        "kind": str(asset.get("assetKind") or ""),
        "submodels": [str(item).rsplit("/", 1)[-1].rsplit(":", 1)[-1] for item in ids],
        "api": f"/api/v3.1/shells/{encoded}",
    }


async def overview(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """What there is, and how it is described."""
    me = rooms.participant
    rights = {one.dataset_id for one in await rooms.govern.all_rights(me)}
    datasets = [{**dataset_of(one), "rights": one.id in rights} for one in await rooms.describe.datasets(me)]
    page = await rooms.describe.shells(me, limit=200)
    shells = found([_shell(one) for one in page.items], ask, lambda one: f"{one['name']} {one['asset']}")
    return {
        "datasets": datasets,
        "shells": cut(shells, ask),
        "more": page.cursor is not None,
        "signals": len(await rooms.fuse.signals(me)),
        "q": ask.query.get("q", ""),
    }


async def dataset(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """One dataset: content, grade, rights, quality, products and its DCAT description."""
    me, key = rooms.participant, ask.path["id"]
    one = await rooms.describe.dataset(me, key)
    stats = await rooms.describe.statistics(me, key)
    signals = {item.id: item for item in await rooms.fuse.signals(me)}
    graded = await rooms.govern.grades(me, ids=[f"dataset:{key}"])
    rights = await rooms.govern.rights(me, key)
    quality = await rooms.govern.quality(me, key)
    products = [item for item in await rooms.exchange.products(me) if item.dataset_id == key]
    return {
        "title": {"en": one.title_en, "zh": one.title_zh},
        "dataset": dataset_of(one),
        "rows": stats.rows,
        "first": time_of(stats.first),
        "last": time_of(stats.last),
        "bytes": stats.bytes_estimated,
        "complete": stats.complete,
        "signals": cut([signal_of(signals[item]) for item in one.signals if item in signals], ask),
        "grade": grade_of(graded[0]) if graded else None,
        "rights": None if rights is None else rights_of(rights),
        "quality": None if quality is None else quality_of(quality),
        "products": [{"id": item.id, "offer": item.offer_id} for item in products],
        "today": time_of(rooms.records.clock.now()),
    }


async def lineage(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Where something comes from and what was made of it."""
    me, node = rooms.participant, ask.query.get("id", "").strip()[:255]
    starts: list[str] = []
    if not node:
        starts += [f"describe:dataset:{one.id}" for one in await rooms.describe.datasets(me)][:10]
        starts += [f"exchange:agreement:{one.id}" for one in await rooms.exchange.agreements(me)][:10]
        starts += [f"fuse:signal:{one.id}" for one in await rooms.fuse.signals(me)][:10]
    back = await rooms.describe.lineage(me, node, "back") if node else []
    forward = await rooms.describe.lineage(me, node, "forward") if node else []
    shown = [*back[:200], *forward[:200]]
    return {
        "labels": await labels(rooms, {node, *starts, *(end for one in shown for end in (one.source, one.target))}),
        "id": node,
        "starts": starts,
        "back": [{"from": edge.source, "to": edge.target, "relation": edge.relation} for edge in back][:200],
        "forward": [{"from": edge.source, "to": edge.target, "relation": edge.relation} for edge in forward][:200],
        "back_total": len(back),
        "forward_total": len(forward),
    }

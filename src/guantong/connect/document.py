"""XML from strangers: bounded, without document types, entities, network or huge trees."""

from __future__ import annotations

from typing import Any

from guantong.base.errors import Refused, Skippable

__all__ = ["local", "parse_xml"]


def parse_xml(data: bytes, *, name: str, limit: int) -> Any:
    """The root element of an XML document.

    Raises Skippable ``connect.document-too-large`` and ``connect.document-unreadable``, Refused ``connect.document-hostile`` for any
    DOCTYPE: no format that connect reads has one, and an entity bomb needs one.
    """
    from lxml import etree

    if len(data) > limit:
        raise Skippable("connect.document-too-large", name=name, size=len(data), limit=limit)
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
            raise Refused("connect.document-hostile", name=name) from error
        raise Skippable("connect.document-unreadable", name=name, reason=str(error)[:200]) from error
    if root.getroottree().docinfo.doctype:
        raise Refused("connect.document-hostile", name=name)
    return root


def local(element: Any) -> str:
    """The element's name without its namespace."""
    tag: str = element.tag
    return tag.rpartition("}")[2]

"""What :class:`guantong.node.Node` carries against the order of the rooms is what its table WIRES says."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from collections.abc import Iterator
from functools import reduce
from pathlib import Path

import pytest

import guantong
from guantong.journey import ORDER
from guantong.node import WIRES

PACKAGE = Path(guantong.__file__).resolve().parent
SHOWN_BY_NO_CALL = {
    ("describe", "exchange"),  # who asks is written into the request before describe's routes see it
    ("describe", "web"),
    ("base", "web"),  # the client is the node's own unless a simulation gives another
}


class Reader:
    """Reads the class Node: which room each attribute is, which rooms each method asks, what each call hands over."""

    def __init__(self, source: str) -> None:
        module = ast.parse(source)
        self.imported = {
            one.asname or one.name: node.module.split(".")[1]
            for node in ast.walk(module)
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("guantong.")
            for one in node.names
            if node.module
        }
        node_class = next(one for one in module.body if isinstance(one, ast.ClassDef) and one.name == "Node")
        self.methods = {
            one.name: one for one in node_class.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        self.attributes: dict[str, str] = {}
        self.locals: dict[str, str] = {}
        for node in ast.walk(node_class):
            if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Call):
                called = node.value.func.id if isinstance(node.value.func, ast.Name) else ""
                room = self.imported.get(called) if called[:1].isupper() else None
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                if room in ORDER and isinstance(target, ast.Attribute):
                    self.attributes[target.attr] = room
                elif room in ORDER and isinstance(target, ast.Name):
                    self.locals[target.id] = room

    def asked(self, node: ast.AST, seen: frozenset[str] = frozenset()) -> set[str]:
        """Rooms whose services an expression or method reaches, through methods of Node too."""
        found: set[str] = set()
        for one in ast.walk(node):
            if isinstance(one, ast.Attribute) and isinstance(one.value, ast.Name) and one.value.id == "self":
                if one.attr in self.attributes:
                    found.add(self.attributes[one.attr])
                elif one.attr in self.methods and one.attr not in seen:
                    found |= self.asked(self.methods[one.attr], seen | {one.attr})
            elif isinstance(one, ast.Name) and one.id in self.locals:
                found.add(self.locals[one.id])
        return found

    def receiver(self, call: ast.Call) -> str | None:
        """The room whose constructor, function or method is called."""
        function = call.func
        if isinstance(function, ast.Name):
            return self.imported.get(function.id)
        if isinstance(function, ast.Attribute):
            inner = self.asked(function.value)
            return next(iter(inner)) if len(inner) == 1 else None
        return None

    def crossings(self) -> Iterator[tuple[str, str]]:
        for method in self.methods.values():
            for call in ast.walk(method):
                if not isinstance(call, ast.Call):
                    continue
                needs = self.receiver(call)
                if needs not in ORDER:
                    continue
                for argument in (*call.args, *(one.value for one in call.keywords)):
                    for gives in self.asked(argument):
                        if ORDER.index(gives) > ORDER.index(needs):
                            yield needs, gives


def read() -> Reader:
    return Reader((PACKAGE / "node.py").read_text("utf-8"))


def test_the_reader_of_the_node_finds_every_service() -> None:
    reader = read()

    assert set(ORDER[1:12]) - {"config"} <= set(reader.attributes.values())


def test_what_the_node_carries_against_the_order_is_in_the_table_and_nothing_else() -> None:
    carried = set(read().crossings())
    listed = {(wire.needs.split(".")[0], wire.gives) for wire in WIRES}

    assert carried - listed == set(), "the node carries something backwards that WIRES does not name"
    assert listed - carried == SHOWN_BY_NO_CALL, "WIRES names a crossing that the node does not make"


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: f"{wire.needs} from {wire.gives}")
def test_each_row_names_something_that_the_earlier_room_defines_and_a_later_room_that_gives_it(wire: object) -> None:
    room, _, path = wire.needs.partition(".")  # type: ignore[attr-defined]
    package = importlib.import_module(f"guantong.{room}")
    modules = [
        importlib.import_module(f"guantong.{room}.{one.name}")
        for one in pkgutil.iter_modules(package.__path__)
        if one.name not in ("migrations", "opcua")
    ]
    owners = [module for module in modules if path.split(".")[0] in vars(module)]

    assert owners, f"{room} has no {path}"
    assert reduce(getattr, path.split("."), owners[0]) is not None
    assert ORDER.index(wire.gives) > ORDER.index(room)  # type: ignore[attr-defined]
    assert wire.shape  # type: ignore[attr-defined]


SMALL = """
from guantong.keep.service import Keep
from guantong.connect.service import Connect
from guantong.govern.service import Govern
class Node:
    def __init__(self):
        self.keep = Keep()
        self.connect = Connect({argument})
        self.govern = Govern(self.keep)
    def _hidden(self):
        return self._deeper()
    def _deeper(self):
        return self.govern.allows
"""


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("self.keep", {("connect", "keep")}),
        ("sink=self.keep.take", {("connect", "keep")}),
        ("lambda: self._hidden()", {("connect", "govern")}),
        ("self._hidden", {("connect", "govern")}),
        ("1", set()),
    ],
)
def test_the_reader_sees_values_methods_and_functions_that_cross(argument: str, expected: set[tuple[str, str]]) -> None:
    assert set(Reader(SMALL.replace("{argument}", argument)).crossings()) == expected

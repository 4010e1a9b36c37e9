"""The command line: ``guantong ...``. Each command says what it does in both languages and loads what it needs when it runs."""

from guantong.cli import (
    audit,
    data,
    edge,
    figures,
    fusing,
    guests,
    keys,
    machines,
    money,
    node,
    partners,
    plane,
    query,
    rehearse,
    safekeeping,
    space,
    watching,
)
from guantong.cli.root import main

__all__ = [
    "audit",
    "data",
    "edge",
    "figures",
    "fusing",
    "guests",
    "keys",
    "machines",
    "main",
    "money",
    "node",
    "partners",
    "plane",
    "query",
    "rehearse",
    "safekeeping",
    "space",
    "watching",
]

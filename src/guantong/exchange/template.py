"""Query templates: what a stranger may ask of data that he may not see, as a signed document, and the check of its statement.

A template is one aggregate over one view, ``data``: the rows of the dataset that a contract names, cut to the columns that the template
declares. The check reads the syntax tree that the engine itself made and knows only what is listed here; everything else is refused by
name. What it writes beside the statement are the sets of units behind each group, so that the size of a group is counted by this node
and not by the template's author. Tier T0: templates that the owner of the data has approved one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from typing import Any

from guantong.base.canonical import canonical_bytes, digest
from guantong.base.clock import parse_iso
from guantong.base.errors import GuantongError, Refused

__all__ = [
    "UNITS",
    "VIEW",
    "Parameter",
    "Template",
    "bind",
    "checked",
    "counted",
    "read_template",
    "units_statement",
    "with_units",
]

VIEW = "data"
"""The one view a template may read."""
UNITS = "_units"
"""Prefix of the columns with the units behind each group."""

PARAMETER_TYPES = ("text", "integer", "number", "boolean", "time")
STATEMENT_MAX = 10_000
DEPTH_MAX = 40
PARAMETERS_MAX = 20
COLUMNS_MAX = 50
TEXT_MAX = 200

SUMS = frozenset(
    {
        "avg",
        "count",
        "count_star",
        "mean",
        "stddev",
        "stddev_pop",
        "stddev_samp",
        "sum",
        "var_pop",
        "var_samp",
        "variance",
    }
)
"""Aggregates that say something of all values of a group together."""
EXTREMES = frozenset({"max", "median", "min", "quantile_cont", "quantile_disc"})
"""Aggregates whose answer may be the value of one unit; allowed where the template says so and the owner approved it."""
SCALARS = frozenset(
    {
        "!~~",
        "%",
        "*",
        "+",
        "-",
        "/",
        "abs",
        "ceil",
        "contains",
        "date_trunc",
        "floor",
        "hour",
        "lower",
        "month",
        "round",
    }
    | {"starts_with", "upper", "year", "~~"}
)
"""Functions of one row; none can reach a file, a setting, the network or an amount of memory, and none but integer arithmetic can fail on
some values and not on others: whether it failed would be an answer. (A template that fails often is stopped, see ``queries.py``.)"""
CASTS = frozenset({"BIGINT", "BOOLEAN", "DATE", "DOUBLE", "INTEGER", "TIMESTAMP", "TIMESTAMPTZ", "VARCHAR"})
_OPERATORS = frozenset({"COMPARE_IN", "COMPARE_NOT_IN", "OPERATOR_IS_NOT_NULL", "OPERATOR_IS_NULL", "OPERATOR_NOT"})


@dataclass(frozen=True, slots=True)
class Parameter:
    """A value that the asker gives."""

    type: str
    """``text``, ``integer``, ``number``, ``boolean`` or ``time`` (RFC 3339)."""
    choices: tuple[str, ...] = ()
    """The only values; empty: any of the type."""
    least: float | None = None
    most: float | None = None


@dataclass(frozen=True, slots=True)
class Template:
    """What its author signs."""

    name: str
    version: str
    statement: str
    """One SELECT over ``data``; parameters stand as ``$name``."""
    columns: tuple[str, ...]
    """The columns of the dataset that it reads; no other is handed to it."""
    unit: str
    """The column that says whose value a row is (a part's serial number, a day): the members of a group are its different values."""
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    min_group: int = 5
    """Fewest units behind a group that is released."""
    max_rows: int = 1000
    max_bytes: int = 1024 * 1024
    extremes: bool = False
    """Whether least, largest and middle values are asked: those are values of single units."""
    title_en: str = ""
    title_zh: str = ""

    def document(self) -> dict[str, Any]:
        """The JSON that is signed."""
        found = asdict(self)
        found["columns"] = list(self.columns)
        found["parameters"] = {
            name: {
                key: list(value) if key == "choices" else value
                for key, value in asdict(one).items()
                if value not in ((), None)
            }
            for name, one in self.parameters.items()
        }
        return {"v": 1, **found}

    @property
    def digest(self) -> str:
        """Its code hash: what a contract names, and every job."""
        return digest(self.document())

    def signed_bytes(self, author: str) -> bytes:
        """What the author's evidence key signs."""
        return canonical_bytes({"type": "guantong/query-template", "author": author, "template": self.document()})


def read_template(document: Any) -> Template:
    """A template from its JSON. Raises Refused ``exchange.template-refused`` naming what it does not mean."""
    if not isinstance(document, Mapping):
        raise _refused("document", "it must be an object")
    names = set(Template.__dataclass_fields__) | {"v"}
    for name in document:
        if name not in names:
            raise _refused(str(name)[:TEXT_MAX], "it is not known")
    if document.get("v", 1) != 1:
        raise _refused("v", "only version 1 is known")
    texts = {
        name: _text(document, name, limit, required=required)
        for name, limit, required in (
            ("name", 100, True),
            ("version", 40, True),
            ("statement", STATEMENT_MAX, True),
            ("unit", 100, True),
            ("title_en", TEXT_MAX, False),
            ("title_zh", TEXT_MAX, False),
        )
    }
    columns = document.get("columns")
    if not isinstance(columns, list | tuple) or not 0 < len(columns) <= COLUMNS_MAX:
        raise _refused("columns", f"1 to {COLUMNS_MAX} names of columns are wanted")
    if any(not isinstance(one, str) or not one or len(one) > 100 or one.startswith("_") for one in columns):
        raise _refused("columns", "a name is unusable")
    extremes = document.get("extremes", False)
    if not isinstance(extremes, bool):
        raise _refused("extremes", "true or false is wanted")
    return Template(
        columns=tuple(sorted(set(columns))),
        parameters=dict(_parameters(document.get("parameters") or {})),
        min_group=_whole(document, "min_group", 5, 1, 1_000_000),
        max_rows=_whole(document, "max_rows", 1000, 1, 100_000),
        max_bytes=_whole(document, "max_bytes", 1024 * 1024, 1, 16 * 1024 * 1024),
        extremes=extremes,
        **texts,
    )


def _parameters(given: Any) -> Iterator[tuple[str, Parameter]]:
    if not isinstance(given, Mapping) or len(given) > PARAMETERS_MAX:
        raise _refused("parameters", f"an object of at most {PARAMETERS_MAX} is wanted")
    for name, one in given.items():
        if not isinstance(name, str) or not name.isidentifier() or not name.isascii() or len(name) > 60:
            raise _refused("parameters", "a name is unusable")
        if not isinstance(one, Mapping) or one.get("type") not in PARAMETER_TYPES:
            raise _refused(name, f"types are {', '.join(PARAMETER_TYPES)}")
        if unknown := set(one) - {"type", "choices", "least", "most"}:
            raise _refused(f"{name}.{min(unknown)}"[:TEXT_MAX], "it is not known")
        choices = one.get("choices") or ()
        ends = [one.get(end) for end in ("least", "most")]
        if not isinstance(choices, list | tuple) or any(not isinstance(item, str) for item in choices):
            raise _refused(name, "choices are texts")
        if any(end is not None and (isinstance(end, bool) or not isinstance(end, int | float)) for end in ends):
            raise _refused(name, "least and most are numbers")
        yield name, Parameter(str(one["type"]), tuple(choices), *ends)


def bind(template: Template, given: Mapping[str, str]) -> dict[str, Any]:
    """The values of the parameters from their texts. Raises Refused ``exchange.query-refused`` naming the first that does not fit."""
    if unknown := set(given) - set(template.parameters):
        raise _denied("parameters", f"there is no parameter {min(unknown)[:TEXT_MAX]}")
    values: dict[str, Any] = {}
    for name, wanted in template.parameters.items():
        if name not in given:
            raise _denied("parameters", f"{name} is missing")
        text = given[name]
        if len(text) > TEXT_MAX:
            raise _denied("parameters", f"{name} is longer than {TEXT_MAX} characters")
        if wanted.choices and text not in wanted.choices:
            raise _denied("parameters", f"{name} is none of {', '.join(wanted.choices)}"[:TEXT_MAX])
        try:
            value = _value(wanted.type, text)
        except (ValueError, GuantongError) as error:
            raise _denied("parameters", f"{name} is no {wanted.type}") from error
        if isinstance(value, int | float) and (
            (wanted.least is not None and value < wanted.least) or (wanted.most is not None and value > wanted.most)
        ):
            raise _denied("parameters", f"{name} is out of its range")
        values[name] = value
    return values


def _value(kind: str, text: str) -> Any:
    if kind == "integer":
        value = int(text)
        if abs(value) >= 2**53:
            raise ValueError(text)
        return value
    if kind == "number":
        number = float(text)
        if number != number or number in (float("inf"), float("-inf")):
            raise ValueError(text)
        return number
    if kind == "boolean":
        return {"true": True, "false": False}[text] if text in ("true", "false") else int("x")
    if kind == "time":
        parse_iso(text)
    return text


# -- the statement


def checked(template: Template, tree: Mapping[str, Any]) -> Mapping[str, Any]:
    """The one SELECT of a statement's tree, if it is nothing but an aggregate over declared columns of ``data``.

    Raises Refused ``exchange.template-refused`` naming what is not allowed.
    """
    statements: list[Any] = list(tree.get("statements") or ())
    if len(statements) != 1:
        raise _refused("statement", "one SELECT is wanted")
    node: Mapping[str, Any] = statements[0]["node"]
    if node.get("type") != "SELECT_NODE":
        raise _refused(str(node.get("type")), "one plain SELECT is wanted")
    source = node.get("from_table") or {}
    if source.get("type") != "BASE_TABLE":
        raise _refused(str(source.get("type")), f"only the view {VIEW} can be read")
    if source.get("table_name") != VIEW or source.get("schema_name") or source.get("catalog_name"):
        raise _refused(str(source.get("table_name"))[:TEXT_MAX], f"only the view {VIEW} can be read")
    if source.get("sample") or source.get("at_clause") or source.get("column_name_alias"):
        raise _refused("FROM", "a sample, a version or other names of columns can't be asked")
    for name in ("having", "qualify", "sample"):
        if node.get(name):
            raise _refused(name.upper(), "groups can't be chosen by what they hold")
    if (node.get("cte_map") or {}).get("map"):
        raise _refused("WITH", "one plain SELECT is wanted")
    if node.get("aggregate_handling") != "STANDARD_HANDLING" or len(node.get("group_sets") or ()) > 1:
        raise _refused("GROUP BY", "its columns are to be named, in one set")
    groups = [_bare(one) for one in node.get("group_expressions") or ()]
    check = _Check(template)
    for modifier in node.get("modifiers") or ():
        if modifier.get("type") != "ORDER_MODIFIER":
            raise _refused(str(modifier.get("type")), "the answer can be ordered and nothing else")
        for order in modifier["orders"]:
            check.item(order["expression"], groups)
    for group in groups:
        check.row(group)
    if node.get("where_clause"):
        check.row(node["where_clause"])
    for item in node.get("select_list") or ():
        if str(item.get("alias", "")).startswith("_"):
            raise _refused(str(item["alias"])[:TEXT_MAX], "names that begin with _ are taken")
        check.item(item, groups)
    if not check.aggregates:
        raise _refused("SELECT", "an aggregate is wanted, not rows")
    if template.unit not in template.columns:
        raise _refused("unit", "it must be one of the columns")
    if stray := check.parameters ^ set(template.parameters):
        raise _refused(f"${min(stray)}", "the parameters of statement and template differ")
    return node


class _Check:
    """Walks expressions; what is not known is refused."""

    def __init__(self, template: Template) -> None:
        self._template = template
        self.aggregates: set[str] = set()
        self.counted: set[str] = set()
        """Columns that aggregates read."""
        self.parameters: set[str] = set()

    def item(self, item: Mapping[str, Any], groups: list[Any], depth: int = 0) -> None:
        """An expression of the answer: a group's own expression, an aggregate of a column, or arithmetic over those."""
        _shallow(depth)
        if _bare(item) in groups:
            return
        if item.get("class") == "FUNCTION" and str(item.get("function_name")) in SUMS | EXTREMES:
            self._aggregate(item)
            return
        if item.get("class") == "COLUMN_REF":
            names = [str(name) for name in item.get("column_names") or ()]
            # the name of an output column, as ORDER BY may use it
            if depth == 0 and len(names) == 1 and names[0] not in self._template.columns:
                return
            raise _refused(".".join(names)[:TEXT_MAX], "a value of a row can't be asked, only of a group")
        for child in self._children(item):
            self.item(child, groups, depth + 1)

    def row(self, item: Mapping[str, Any], depth: int = 0) -> None:
        """An expression over one row: in WHERE and GROUP BY."""
        _shallow(depth)
        if item.get("class") == "COLUMN_REF":
            self._column(item)
            return
        for child in self._children(item):
            self.row(child, depth + 1)

    def _aggregate(self, item: Mapping[str, Any]) -> None:
        name = str(item["function_name"])
        if name in EXTREMES and not self._template.extremes:
            raise _refused(name, "its answer may be the value of one unit, and the template does not say so")
        if item.get("filter") or (item.get("order_bys") or {}).get("orders"):
            raise _refused(f"{name} FILTER", "an aggregate takes every row of its group")
        arguments = [one["expression"] for one in item.get("arguments") or ()]
        for place, argument in enumerate(arguments):
            if place and argument.get("class") == "CONSTANT":
                continue
            if place or argument.get("class") != "COLUMN_REF":
                # an expression could pick single rows: avg(CASE WHEN serial = 'X' THEN value END)
                raise _refused(name, "it takes a column as it is")
            self.counted.add(self._column(argument))
        self.aggregates.add(name)

    def _column(self, item: Mapping[str, Any]) -> str:
        names: list[Any] = list(item.get("column_names") or ())
        if len(names) != 1 or names[0] not in self._template.columns:
            raise _refused(".".join(map(str, names))[:TEXT_MAX], "it is none of the declared columns")
        return str(names[0])

    def _children(self, item: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        kind = item.get("class")
        if kind == "CONSTANT":
            return []
        if kind == "PARAMETER":
            self.parameters.add(str(item.get("identifier")))
            return []
        if kind == "CAST":
            name = str((item.get("type_expr") or {}).get("type_name", "")).upper()
            if name not in CASTS:
                raise _refused(f"::{name}"[:TEXT_MAX], "the type is not known")
            if item["child"].get("class") not in ("CONSTANT", "PARAMETER"):
                raise _refused(f"::{name}", "only a constant or a parameter is given another type")
            return [item["child"]]
        if kind == "FUNCTION":
            name = str(item.get("function_name"))
            if name not in SCALARS or item.get("schema") or item.get("catalog") or item.get("filter"):
                raise _refused(name[:TEXT_MAX], "the function is not among those allowed")
            arguments = [one["expression"] for one in item.get("arguments") or ()]
            if name in ("date_trunc", "round") and arguments[:1] and not _steady(name, arguments):
                raise _refused(name, "how fine it is must be a constant")
            return arguments
        if kind == "COMPARISON":
            return [item["left"], item["right"]]
        if kind == "BETWEEN":
            return [item["input"], item["lower"], item["upper"]]
        if kind == "CONJUNCTION" or (kind == "OPERATOR" and item.get("type") in _OPERATORS):
            return list(item["children"])
        raise _refused(str(item.get("type") or kind)[:TEXT_MAX], "it is not among what a template may hold")


def with_units(tree: Mapping[str, Any], units: Mapping[str, Any]) -> dict[str, Any]:
    """The tree with the units behind each group as further columns: those of the tree of :func:`units_statement`."""
    written = deepcopy(dict(tree))
    node = written["statements"][0]["node"]
    node["select_list"] = [*node["select_list"], *units["statements"][0]["node"]["select_list"]]
    return written


def counted(template: Template, node: Mapping[str, Any]) -> list[str]:
    """The columns that aggregates of the answer read; the unit itself stands for ``count(*)``."""
    check = _Check(template)
    groups = [_bare(one) for one in node.get("group_expressions") or ()]
    for item in node["select_list"]:
        check.item(item, groups)
    return sorted(check.counted | {template.unit})


def units_statement(template: Template, names: list[str]) -> str:
    """A statement whose columns are the lists of units with a value in each of ``names``."""
    lists = ", ".join(
        f"list(DISTINCT {_quoted(template.unit)}) FILTER (WHERE {_quoted(name)} IS NOT NULL) AS {UNITS}{place}"
        for place, name in enumerate(names)
    )
    return f"SELECT {lists} FROM {VIEW}"  # noqa: S608 - names are quoted and were declared


def _steady(name: str, arguments: list[Mapping[str, Any]]) -> bool:
    told = arguments[:1] if name == "date_trunc" else arguments[1:]
    return all(one.get("class") == "CONSTANT" for one in told)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _bare(item: Any) -> Any:
    """An expression without its place in the text and its name."""
    if isinstance(item, Mapping):
        return {
            key: _bare(value)
            for key, value in item.items()
            if key not in ("alias", "query_location", "query_location_length")
        }
    if isinstance(item, list):
        return [_bare(one) for one in item]
    return item


def _shallow(depth: int) -> None:
    if depth > DEPTH_MAX:
        raise _refused("expression", f"it is deeper than {DEPTH_MAX}")


def _text(document: Mapping[str, Any], name: str, limit: int, *, required: bool) -> str:
    value = document.get(name, "")
    if not isinstance(value, str) or len(value) > limit or (required and not value.strip()):
        raise _refused(name, f"a text of at most {limit} characters is wanted")
    return value


def _whole(document: Mapping[str, Any], name: str, default: int, least: int, most: int) -> int:
    value = document.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise _refused(name, f"a whole number from {least} to {most} is wanted")
    return value


def _refused(what: str, reason: str) -> Refused:
    return Refused("exchange.template-refused", what=what, reason=reason)


def _denied(rule: str, reason: str) -> Refused:
    return Refused("exchange.query-refused", rule=rule, reason=reason)

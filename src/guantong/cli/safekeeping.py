"""Commands about keeping data: take it out, back it up, restore it, check it, mend it, ask it in SQL."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import click

from guantong.base.errors import ConfigProblem, Skippable
from guantong.cli.root import Place, at_node, facts, main, table, write_file

if TYPE_CHECKING:
    from guantong.keep.seal import Seal

__all__: list[str] = []

_PASSPHRASE = "GUANTONG_PASSPHRASE"  # noqa: S105 - the name of a variable
passphrase_option = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path),
    help=f"File with the passphrase; else {_PASSPHRASE}, else asked for. / 口令文件；否则取 {_PASSPHRASE}，再否则当场询问。",
)


def _passphrase(file: Path | None, *, twice: bool) -> str:
    if file is not None:
        from guantong.cli.root import read_text

        return read_text(file).strip("\r\n")
    given = os.environ.get(_PASSPHRASE)
    return given or str(click.prompt("Passphrase / 口令", hide_input=True, confirmation_prompt=twice, err=True))


@main.command()
@click.argument("target", metavar="FILE", type=click.Path(path_type=Path))
@passphrase_option
@at_node
def backup(place: Place, target: Path, passphrase_file: Path | None) -> None:
    """Write everything of the node into one encrypted file, while it runs: data, records, evidence and keys.

    把节点的全部内容（数据、记录、存证与密钥）写入一个加密文件，节点可照常运行。
    """
    secret = _passphrase(passphrase_file, twice=True)
    with place.desk() as desk:
        made = desk.act("/settings/backup", out=str(target.expanduser().resolve()), passphrase=secret)
    made.pop("next", None)
    place.say(made, facts)


@main.command()
@click.argument("target", metavar="FILE", type=click.Path(path_type=Path))
@passphrase_option
@at_node
def restore(place: Place, target: Path, passphrase_file: Path | None) -> None:
    """Open a back-up into an empty directory. Read "Back up and restore" first: partners may have seen more than the back-up holds.

    把备份恢复到空目录。请先阅读《备份与恢复》：伙伴见过的存证可能比备份中的更新。
    """
    from guantong.keep.backup import restore as open_backup
    from guantong.keep.doctor import check as examine

    directory = Path(place.config["node.directory"]).expanduser().resolve()
    made = open_backup(target, _passphrase(passphrase_file, twice=False), directory)
    seal = _seal(place, directory)
    made |= {"directory": str(directory), "broken": [one.file for one in examine(directory, seal)]}
    place.say(made, facts)


@main.command()
@at_node
def check(place: Place) -> None:
    """Read everything that the node has stored and name every broken file. The node must not run. Exit code 5: something is broken.

    读取节点存储的全部内容并列出每个损坏的文件；须先停止节点。退出码 5 表示有损坏。
    """
    from guantong.keep.doctor import check as examine

    directory = _stopped(place)
    found = examine(directory, _seal(place, directory))
    rows = [{"file": one.file, "problem": one.problem, "mendable": one.mendable, "mend": one.mend} for one in found]
    place.say(
        {"directory": str(directory), "broken": rows}, lambda _: table(rows, ("file", "problem", "mendable", "mend"))
    )
    if found:
        sys.exit(5)


@main.command()
@click.option("--rebuild", metavar="TABLE", help="Fill this table anew from the log. / 用日志重新填充这张数据表。")
@at_node
def repair(place: Place, rebuild: str | None) -> None:
    """Mend what check found and can be mended; what was broken is kept in the folder "damaged". The node must not run.

    修复 check 发现的可修复问题；损坏的内容保留在 damaged 文件夹。须先停止节点。
    """
    from guantong.keep import doctor

    directory = _stopped(place)
    if rebuild is not None:
        name = rebuild if rebuild in ("readings", "measurements") else f"table:{rebuild}"
        participant = _participant(directory)
        first, last = doctor.rebuild(directory, participant, name)
        made: dict[str, Any] = {"table": rebuild, "from_position": first, "to_position": last}
        place.say(made, facts)
        return
    done = [
        {"file": one.file, "problem": one.problem, "mend": one.mend}
        for one in doctor.repair(directory, _seal(place, directory))
    ]
    left = [one.file for one in doctor.check(directory, _seal(place, directory))]
    place.say({"mended": done, "left": left}, lambda _: table(done, ("file", "problem", "mend")))
    if left:
        sys.exit(5)


@main.command()
@click.argument("kind", metavar="KIND")
@click.argument("target", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(["parquet", "csv", "arrow"]),
    help="Default: the file's ending. / 默认按文件扩展名。",
)
@click.option("--signal", multiple=True, type=int, help="Number of a signal; repeat it. / 信号编号，可重复。")
@click.option("--from", "start", help="Begin, RFC 3339. / 开始时间，RFC 3339。")
@click.option("--to", "end", help="End, not included. / 结束时间（不含）。")
@click.option(
    "--revisions", is_flag=True, help="Every revision instead of the highest. / 输出每个修订，而非仅最新修订。"
)
@at_node
def export(
    place: Place,
    kind: str,
    target: Path,
    form: str | None,
    signal: tuple[int, ...],
    start: str | None,
    end: str | None,
    revisions: bool,
) -> None:
    """Write rows into a file: KIND is readings, measurements or the name of a table.

    把数据写入文件：KIND 为 readings、measurements 或数据表名。
    """
    chosen = form or {".parquet": "parquet", ".csv": "csv", ".arrow": "arrow", ".arrows": "arrow"}.get(
        target.suffix.lower()
    )
    if chosen is None:
        raise Skippable("keep.query-invalid", reason="say the format with --format, or by the file's ending")
    query = [("format", chosen), *(("signal", str(one)) for one in signal)]
    query += [(name, value) for name, value in (("from", start), ("to", end)) if value]
    query += [("revisions", "1")] if revisions else []
    with place.desk() as desk:
        content = desk.fetch(f"/export/{quote(kind, safe='')}?{urlencode(query)}")
    write_file(target, content)
    place.say({"file": str(target), "format": chosen, "bytes": len(content)}, facts)


@main.command()
@click.argument("statement")
@at_node
def sql(place: Place, statement: str) -> None:
    """Ask in SQL: one SELECT over readings, measurements, readings_all, measurements_all and the named tables.

    用 SQL 查询：一条 SELECT，可用 readings、measurements、readings_all、measurements_all 及各具名数据表。
    """
    import pyarrow as pa

    with place.desk() as desk:
        content = desk.act_for_bytes("/sql?format=arrow", statement=statement)
    with pa.ipc.open_stream(content) as reader:
        found = reader.read_all()
    rows = [{name: _plain(value) for name, value in row.items()} for row in found.to_pylist()]
    place.say({"columns": found.column_names, "rows": rows}, lambda _: table(rows, found.column_names))


def _plain(value: Any) -> Any:
    try:
        json.dumps(value)
    except TypeError:
        return value.isoformat() if hasattr(value, "isoformat") else str(value)
    return value


def _stopped(place: Place) -> Path:
    from guantong.cli.desk import running_place

    directory = Path(place.config["node.directory"]).expanduser().resolve()
    if running_place(directory) is not None:
        raise ConfigProblem("keep.in-use", directory=directory.name)
    if not (directory / "keys.json").exists():
        raise ConfigProblem("node.none-here", directory=directory)
    return directory


def _seal(place: Place, directory: Path) -> Seal | None:
    from guantong.keep.seal import load_seal

    return load_seal(place.config["keep.key-file"], directory, place.config["keep.cipher"])


def _participant(directory: Path) -> str:
    import contextlib
    import sqlite3

    with contextlib.closing(sqlite3.connect(f"file:{directory / 'keep' / 'log.db'}?mode=ro", uri=True)) as log:
        found = log.execute("SELECT participant FROM marks ORDER BY entries DESC LIMIT 1").fetchone()
    return "" if found is None else str(found[0])

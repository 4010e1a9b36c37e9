"""One tree of errors, sorted by what the caller should do, and one table that gives each code its words.

::

    GuantongError
    ├── ConfigProblem   a person edits something
    ├── Retryable       back off and try again
    ├── Skippable       drop the record into quarantine, keep counting
    ├── Refused         policy or peer said no; not a fault
    └── Corrupt         stop, keep the evidence

A code never changes its meaning. The table gives message and next step in both languages, the HTTP status and the exit code; the
command line, the API (RFC 9457 problem documents) and the pages show the same code.
"""

from __future__ import annotations

from guantong.base.error_table import ERRORS, ErrorRow

__all__ = ["ConfigProblem", "Corrupt", "GuantongError", "Refused", "Retryable", "Skippable"]


class GuantongError(Exception):
    """Something went wrong that has a code, a sentence and a next step. Raise a branch of it, never this class."""

    kind = "error"

    def __init__(self, code: str, /, **facts: object) -> None:
        row = ERRORS.get(code)
        if row is None or row.kind != self.kind:
            raise LookupError(f"error code {code!r} is not in the table as {self.kind!r}")
        self.code = code
        self.row: ErrorRow = row
        self.facts = facts
        super().__init__(code, facts)

    def message(self, language: str = "en") -> str:
        """The sentence with its facts filled in; facts that are missing show as ``–``."""
        return self._fill(self.row.message_zh if language.startswith("zh") else self.row.message_en)

    def hint(self, language: str = "en") -> str:
        """The next step."""
        return self._fill(self.row.hint_zh if language.startswith("zh") else self.row.hint_en)

    @property
    def status(self) -> int:
        """HTTP status."""
        return self.row.status

    @property
    def exit_code(self) -> int:
        """Exit code of the command line."""
        return self.row.exit_code

    def problem(self, language: str = "en") -> dict[str, object]:
        """RFC 9457 problem document."""
        return {
            "type": f"urn:guantong:error:{self.code}",
            "title": self.message(language),
            "status": self.status,
            "detail": self.hint(language),
            "code": self.code,
        }

    def _fill(self, template: str) -> str:
        return template.format_map(_Facts({name: str(value) for name, value in self.facts.items()}))

    def __str__(self) -> str:
        return f"{self.code}: {self.message()} {self.hint()}"

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.code, self.facts))


class _Facts(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return "–"


def _rebuild(kind: type[GuantongError], code: str, facts: dict[str, object]) -> GuantongError:
    return kind(code, **facts)


class ConfigProblem(GuantongError):
    """A person must edit a setting, a file or a command."""

    kind = "config"


class Retryable(GuantongError):
    """Back off and try again; nothing was lost."""

    kind = "retry"


class Skippable(GuantongError):
    """One record can't be used: quarantine it with its reason and go on."""

    kind = "skip"


class Refused(GuantongError):
    """A policy or a peer said no. Not a fault."""

    kind = "refused"


class Corrupt(GuantongError):
    """Stored bytes are not what was written: stop and keep them as evidence."""

    kind = "corrupt"

"""Hatchling's build hook: a wheel always holds the scripts of the pages.

An editable install gets them as well, so that a fresh clone serves its pages after ``make setup``.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PagesHook(BuildHookInterface):
    """Runs scripts/build_pages.py before a wheel is put together."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the pages' scripts unless they are there and unchanged."""
        if self.target_name != "wheel":
            return
        path = Path(self.root) / "scripts" / "build_pages.py"
        spec = importlib.util.spec_from_file_location("build_pages", path)
        assert spec is not None
        assert spec.loader is not None
        pages = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(pages)
        if not pages.is_built():
            self.app.display_info("building the scripts of the pages")
            pages.build()

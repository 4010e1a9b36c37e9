"""A govern stage over records in memory, for one participant."""

from __future__ import annotations

import pytest

from guantong.govern.model import GovernSettings
from guantong.govern.service import Govern

ME = "did:web:supplier.example"


@pytest.fixture
def govern(records, clock) -> Govern:
    return Govern(records, clock, GovernSettings(decision_pending_rows=50))

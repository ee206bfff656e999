"""The probe's zip is not what these tests are about: a stand-in takes its place."""

from __future__ import annotations

import pytest

from planner import data


@pytest.fixture
def stand_in_zip(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Replace the probe's zip by a few bytes that say what they are."""
    content = b"stand-in for the probe"
    monkeypatch.setattr(data, "probe_zip", lambda: content, raising=False)
    return content

"""What a process may use: the machine's memory, or less where its control group says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from slth import memory


def test_a_control_group_may_leave_less_than_the_machine_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group = tmp_path / "memory.max"
    monkeypatch.setattr(memory, "_CONTROL_GROUP", group)
    machine = memory.memory_bytes()
    assert 1 << 26 < machine < 1 << 62
    for text, expected in (("max\n", machine), ("12345678\n", 12345678), (f"{1 << 61}\n", machine), ("", machine)):
        group.write_text(text)
        assert memory.memory_bytes() == expected

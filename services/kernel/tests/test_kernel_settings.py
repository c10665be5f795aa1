"""What a kernel can be told, where one setting depends on another."""

from __future__ import annotations

import pytest

from batos.kernel.settings import KernelSettings
from batos.vessel import SettingsError
from batos.vessel.settings import load_settings


@pytest.mark.parametrize(("slots", "workers", "found"), [("", "", 4), ("16", "", 16), ("2", "", 2), ("3", "5", 5)])
def test_a_sandbox_has_a_worker_for_every_slot(
    monkeypatch: pytest.MonkeyPatch, slots: str, workers: str, found: int
) -> None:
    """Where nothing is said there are as many as cycles that run at a time; there may be more."""
    monkeypatch.setenv("BATOS_KERNEL_SLOTS", slots)
    monkeypatch.setenv("BATOS_KERNEL_SANDBOX_WORKERS", workers)
    assert load_settings(KernelSettings).sandbox_workers == found


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        (
            {"kernel_slots": 5, "kernel_sandbox_workers": 4},
            "SANDBOX_WORKERS: there have to be as many as BATOS_KERNEL_SLOTS, 5, or more; unset, there are (it is 4)",
        ),
        ({"kernel_sandbox_workers": 3}, "BATOS_KERNEL_SANDBOX_WORKERS: there have to be as many"),
        (
            {"kernel_sandbox_wall_s": 120},
            "BATOS_KERNEL_SANDBOX_WALL_S: it has to be more than BATOS_KERNEL_INFER_TIMEOUT_S, 120 (it is 120)",
        ),
        ({"kernel_infer_timeout_s": 180}, "BATOS_KERNEL_SANDBOX_WALL_S: it has to be more than"),
    ],
)
def test_settings_that_do_not_fit_each_other_are_refused(given: dict[str, float], fault: str) -> None:
    """In one sentence that names both."""
    with pytest.raises(SettingsError) as caught:
        load_settings(KernelSettings, **given)
    assert fault in str(caught.value)


def test_a_fault_is_named_once() -> None:
    """What depends on a setting that is out of bounds itself is not held against it."""
    with pytest.raises(SettingsError) as caught:
        load_settings(KernelSettings, kernel_slots=0, kernel_sandbox_workers=1, kernel_infer_timeout_s=0)
    assert "BATOS_KERNEL_SLOTS" in str(caught.value)
    assert "SANDBOX" not in str(caught.value)

"""The training program's own arithmetic: what it does before and after torch."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batos.forge_trainer.train import (
    IGNORED,
    BadJob,
    Reporter,
    Tokens,
    _padded,
    pieces,
    read_job,
    read_rows,
    rows_at_a_time,
    surroundings,
    whole_checkpoints,
    write_report,
)


@given(st.lists(st.integers(1, 300), min_size=1, max_size=40), st.integers(1, 1000))
def test_pieces_hold_every_row_once_within_the_budget(lengths: list[int], budget: int) -> None:
    """Every row is in one piece; a piece, padded to its longest row, keeps the budget unless it is a single row."""
    found = pieces(lengths, budget)
    assert sorted(index for piece in found for index in piece) == list(range(len(lengths)))
    for piece in found:
        assert len(piece) == 1 or len(piece) * max(lengths[index] for index in piece) <= budget


@given(st.integers(1, 5000), st.integers(1, 64), st.integers(1, 10_000))
def test_a_step_is_computed_in_equal_parts(longest: int, batch: int, budget: int) -> None:
    """The rows computed together divide the step's rows, and fit the budget unless it is one row."""
    found = rows_at_a_time(longest, batch, budget)
    assert batch % found == 0
    assert found == 1 or found * longest <= budget


def test_only_the_answer_is_measured() -> None:
    """Prompt and padding are ignored; tokens of the answer are their own labels."""
    ids, mask, labels = _padded([Tokens([1, 2, 3, 4], 2), Tokens([5, 6], 1)], 0)
    assert ids == [[1, 2, 3, 4], [5, 6, 0, 0]]
    assert mask == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert labels == [[IGNORED, IGNORED, 3, 4], [IGNORED, 6, IGNORED, IGNORED]]


def test_a_torn_checkpoint_is_not_resumed_from(tmp_path: Path) -> None:
    """Whole checkpoints are found in the order of their steps; torn ones are removed."""
    for step in (5, 10, 100):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
    torn = tmp_path / "checkpoint-105"
    torn.mkdir()
    (torn / "trainer_state.json").write_text('{"global')
    assert [path.name for path in whole_checkpoints(tmp_path)] == ["checkpoint-5", "checkpoint-10", "checkpoint-100"]
    assert not torn.exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"model": "m"}'])
def test_a_job_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    """A job file that is torn or lacks fields is refused with a sentence."""
    path = tmp_path / "job.json"
    path.write_text(text)
    with pytest.raises(BadJob, match="job"):
        read_job(path)


def test_rows_end_with_the_answer(tmp_path: Path) -> None:
    """A row whose last turn is not the assistant's cannot be trained on."""
    path = tmp_path / "rows.jsonl"
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    path.write_text(json.dumps({"messages": turns}) + "\n")
    assert read_rows(path) == [turns]
    path.write_text(json.dumps({"messages": turns[::-1]}) + "\n")
    with pytest.raises(BadJob, match=r"rows\.jsonl"):
        read_rows(path)


def test_progress_is_one_object_a_line() -> None:
    """Each word of progress is a line of JSON with its event and the time since the start."""
    stream = io.StringIO()
    Reporter(stream).say("step", step=1, of=2, loss=0.5)
    found = json.loads(stream.getvalue())
    assert (found["event"], found["step"], found["of"], found["loss"]) == ("step", 1, 2, 0.5)
    assert found["elapsed_s"] >= 0


def test_threads_sleep_while_they_wait() -> None:
    """The libraries find a machine without network and threads that do not spin."""
    found = surroundings(2)
    assert (found["OMP_WAIT_POLICY"], found["OMP_NUM_THREADS"], found["HF_HUB_OFFLINE"]) == ("PASSIVE", "2", "1")


def test_a_report_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    """Writing a report leaves nothing else behind, and replaces an older one."""
    path = tmp_path / "report.json"
    write_report(path, {"base_loss": 1.0})
    write_report(path, {"base_loss": 2.0})
    assert json.loads(path.read_text()) == {"base_loss": 2.0}
    assert [found.name for found in tmp_path.iterdir()] == ["report.json"]

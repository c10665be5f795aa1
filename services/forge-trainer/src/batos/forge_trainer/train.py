"""Trains one LoRA adapter and measures it: `train.py JOB.json`, run by the forge environment's Python.

A standalone program: it imports nothing but the standard library until it works, and nothing of BAT OS. It reads a job
(see `Job`), trains with trl and peft, measures base and candidate on the held-out rows with the same code, and writes

- `<output>/adapter/`: peft's `adapter_config.json` and `adapter_model.safetensors`,
- `<output>/report.json`: settings, versions, durations and losses, written last,
- one JSON object a line on stdout for how far it is; everything else that libraries say goes to stderr.

A second run with the same job goes on from the last whole checkpoint.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

IGNORED = -100
"""Label of a token that is not measured: torch's own."""
PIECE_TOKENS = {"cpu": 1024, "cuda": 16384}
"""Tokens, padding included, that are put through the model at a time: bounds memory, not the size of a step."""
PACKAGES = ("torch", "transformers", "trl", "peft", "datasets", "accelerate")
LINEAR_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class BadJob(Exception):  # noqa: N818 - it says what the job is
    """The job cannot be done as it is; the sentence says what to do."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What to train.

    Attributes:
        model: folder of the base model in transformers' layout.
        train: file of rows to train on, JSON Lines with `messages` ending in the assistant's.
        held_out: file of rows to measure on.
        output: folder for checkpoints, adapter and report.
        base_name: name of the base model, written into the adapter's configuration.
        epochs: passes over the rows, more than 0.
        rank: LoRA rank, at least 1.
        alpha: LoRA alpha.
        learning_rate: of AdamW, at the top of a cosine.
        batch: rows a step.
        max_length: tokens of prompt and answer together; longer rows are left out.
        seed: of everything random.
        threads: threads of torch.
        checkpoint_steps: steps between two checkpoints.
        precision: auto (bf16 where the processor computes with it), bf16 or fp32.
    """

    model: str
    train: str
    held_out: str
    output: str
    base_name: str
    epochs: float
    rank: int
    alpha: int
    learning_rate: float
    batch: int
    max_length: int
    seed: int
    threads: int
    checkpoint_steps: int
    precision: str


@dataclass(frozen=True)
class Tokens:
    """A row as the model sees it: its tokens, and from which one on the answer stands."""

    ids: list[int]
    answer_from: int


def read_job(path: Path) -> Job:
    """Read a job file.

    Raises:
        BadJob: it cannot be read, or its fields are not those of a job.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadJob(f"{path} cannot be read as a job: {error}") from error
    expected = {field.name for field in fields(Job)}
    if not isinstance(found, dict) or set(found) != expected:
        raise BadJob(f"{path} must hold exactly: {', '.join(sorted(expected))}")
    return Job(**found)


def read_rows(path: Path) -> list[list[dict[str, str]]]:
    """Return the messages of each row; the last one is the assistant's."""
    rows = [json.loads(line)["messages"] for line in path.read_text(encoding="utf-8").splitlines() if line]
    if any(len(messages) < 2 or messages[-1]["role"] != "assistant" for messages in rows):  # noqa: PLR2004
        raise BadJob(f"every row of {path.name} needs a prompt and an assistant's answer")
    return rows


def pieces(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Return indices of rows in pieces that are put through the model at a time, the longest rows first.

    Args:
        lengths: tokens of each row.
        budget: tokens of a piece, padding included; a longer row is a piece of its own.
    """
    found: list[list[int]] = []
    widest = 0
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        if found and (len(found[-1]) + 1) * widest <= budget:
            found[-1].append(index)
        else:
            widest = lengths[index]
            found.append([index])
    return found


def rows_at_a_time(longest: int, batch: int, budget: int) -> int:
    """Return how many rows of a step are computed together: the largest divisor of the step's rows that fits."""
    return max(size for size in range(1, batch + 1) if batch % size == 0 and (size == 1 or size * longest <= budget))


def whole_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints that were written to their end, oldest first; the trainer writes their state last."""
    found = []
    for path in folder.glob("checkpoint-*"):
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
            found.append((int(path.name.removeprefix("checkpoint-")), path))
        except (OSError, ValueError):
            shutil.rmtree(path, ignore_errors=True)
    return [path for _, path in sorted(found)]


class Reporter:
    """Says how far it is, one JSON object a line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._began = time.monotonic()

    def elapsed_s(self) -> float:
        """Return seconds since the start."""
        return time.monotonic() - self._began

    def say(self, event: str, **values: Any) -> None:
        """Write one line."""
        line = {"event": event, **values, "elapsed_s": round(self.elapsed_s(), 3)}
        self._stream.write(json.dumps(line) + "\n")
        self._stream.flush()


def surroundings(threads: int) -> dict[str, str]:
    """Return the environment that the libraries are to find: offline, and threads that sleep while they wait.

    Where other processes compete for the processors, threads that spin at every barrier cost many times the work.
    """
    return {
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",
    }


def own_stdout() -> TextIO:
    """Keep stdout for progress: whatever else is printed there, by any library, goes to stderr."""
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return stream


class Forge:
    """One training: model, tokenizer, rows."""

    def __init__(self, job: Job, reporter: Reporter) -> None:
        import torch  # noqa: PLC0415 - heavy, and only there in the forge environment
        from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415 - heavy, and only there in the forge environment

        self.job = job
        self.reporter = reporter
        torch.set_num_threads(job.threads)
        self.cuda = torch.cuda.is_available()
        self.bf16 = _computes_bf16(torch, self.cuda) if job.precision == "auto" else job.precision == "bf16"
        self.device = "cuda" if self.cuda else "cpu"
        reporter.say("loading", precision="bf16" if self.bf16 else "fp32", device=self.device)
        self.tokenizer = AutoTokenizer.from_pretrained(job.model)
        self.base = AutoModelForCausalLM.from_pretrained(
            job.model, dtype=torch.bfloat16 if self.bf16 else torch.float32
        )
        self.base.to(self.device)

    def tokens(self, messages: list[dict[str, str]]) -> Tokens:
        """Return a row as the model sees it."""
        prompt = self.tokenizer.apply_chat_template(
            messages[:-1], add_generation_prompt=True, tokenize=True, return_dict=True
        )["input_ids"]
        whole = self.tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True)["input_ids"]
        if whole[: len(prompt)] != prompt:
            raise BadJob(
                "the model's chat template writes a prompt differently once it is answered: it cannot be trained on"
            )
        return Tokens(list(whole), len(prompt))

    def fitting(self, path: Path) -> tuple[list[list[dict[str, str]]], list[Tokens], int]:
        """Return the rows of a file that fit, their tokens, and how many did not."""
        kept, encoded, too_long = [], [], 0
        for messages in read_rows(path):
            tokens = self.tokens(messages)
            if len(tokens.ids) > self.job.max_length:
                too_long += 1
            else:
                kept.append(messages)
                encoded.append(tokens)
        if not kept:
            raise BadJob(f"no row of {path.name} fits into {self.job.max_length} tokens: raise BATOS_FORGE_MAX_LENGTH")
        return kept, encoded, too_long

    def train(self, rows: list[list[dict[str, str]]], longest: int) -> tuple[Any, dict[str, Any]]:
        """Train; return the model with its adapter, and what there is to say about the training."""
        from datasets import Dataset  # noqa: PLC0415 - heavy, and only there in the forge environment
        from peft import LoraConfig  # noqa: PLC0415 - heavy, and only there in the forge environment
        from trl import SFTConfig, SFTTrainer  # noqa: PLC0415 - heavy, and only there in the forge environment

        job = self.job
        checkpoints = Path(job.output) / "checkpoints"
        together = rows_at_a_time(longest, job.batch, PIECE_TOKENS[self.device])
        arguments = SFTConfig(
            output_dir=str(checkpoints),
            num_train_epochs=job.epochs,
            per_device_train_batch_size=together,
            gradient_accumulation_steps=job.batch // together,
            gradient_checkpointing=False,
            learning_rate=job.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=2,
            max_grad_norm=1.0,
            logging_steps=1,
            logging_first_step=True,
            save_strategy="steps",
            save_steps=job.checkpoint_steps,
            save_total_limit=2,
            report_to="none",
            disable_tqdm=True,
            seed=job.seed,
            data_seed=job.seed,
            max_length=job.max_length,
            completion_only_loss=True,
            packing=False,
            bf16=False,  # the base is in bf16 already; autocast beside it took half as long again
            fp16=False,
            use_cpu=not self.cuda,
            dataloader_pin_memory=self.cuda,
        )
        trainer = SFTTrainer(
            model=self.base,
            args=arguments,
            processing_class=self.tokenizer,
            train_dataset=Dataset.from_list([{"prompt": row[:-1], "completion": row[-1:]} for row in rows]),
            peft_config=LoraConfig(
                r=job.rank,
                lora_alpha=job.alpha,
                lora_dropout=0.0,
                target_modules=list(LINEAR_LAYERS),
                task_type="CAUSAL_LM",
            ),
            callbacks=[_progress_callback(self.reporter)],
        )
        last = whole_checkpoints(checkpoints)[-1:]
        if last:
            self.reporter.say("resuming", checkpoint=last[0].name)
        began = time.monotonic()
        trainer.train(resume_from_checkpoint=str(last[0]) if last else None)
        losses = [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
        if not all(math.isfinite(loss) for loss in losses):
            raise BadJob(f"the training loss became {losses[-1]}: lower BATOS_FORGE_LEARNING_RATE")
        return trainer.model, {
            "steps": trainer.state.global_step,
            "seconds": round(time.monotonic() - began, 3),
            "resumed_from": last[0].name if last else "",
            "first_loss": losses[0],
            "last_loss": losses[-1],
            "mean_loss": sum(losses) / len(losses),
            "rows_at_a_time": together,
        }

    def held_out_loss(self, model: Any, rows: Sequence[Tokens], what: str) -> float:
        """Return the mean loss, in nats a token, over the answers of held-out rows; prompts are not measured."""
        import torch  # noqa: PLC0415 - heavy, and only there in the forge environment

        was_training = model.training
        model.eval()
        total, measured, done = 0.0, 0, 0
        try:
            for piece in pieces([len(row.ids) for row in rows], PIECE_TOKENS[self.device]):
                ids, mask, labels = _padded([rows[index] for index in piece], int(self.tokenizer.pad_token_id))
                with torch.inference_mode():
                    logits = model(
                        input_ids=torch.tensor(ids, device=self.device),
                        attention_mask=torch.tensor(mask, device=self.device),
                    ).logits
                    wanted = torch.tensor(labels, device=self.device)[:, 1:]
                    at = wanted != IGNORED
                    total += torch.nn.functional.cross_entropy(
                        logits[:, :-1][at].float(), wanted[at], reduction="sum"
                    ).item()
                    measured += int(at.sum().item())
                done += len(piece)
                self.reporter.say("evaluating", what=what, done=done, of=len(rows))
        finally:
            model.train(was_training)
        return total / measured


def _padded(rows: Sequence[Tokens], padding: int) -> tuple[list[list[int]], list[list[int]], list[list[int]]]:
    """Return tokens, attention mask and labels of rows, all as long as the longest."""
    width = max(len(row.ids) for row in rows)
    ids = [row.ids + [padding] * (width - len(row.ids)) for row in rows]
    mask = [[1] * len(row.ids) + [0] * (width - len(row.ids)) for row in rows]
    labels = [
        [IGNORED] * row.answer_from + row.ids[row.answer_from :] + [IGNORED] * (width - len(row.ids)) for row in rows
    ]
    return ids, mask, labels


def _computes_bf16(torch: Any, cuda: bool) -> bool:
    """Whether bf16 is the faster way here: on a processor without AVX-512 or better it is emulated."""
    if cuda:
        return bool(torch.cuda.is_bf16_supported())
    return platform.machine() in {"arm64", "aarch64"} or "AVX512" in torch.backends.cpu.get_cpu_capability()


def _progress_callback(reporter: Reporter) -> Any:
    from transformers import TrainerCallback  # noqa: PLC0415 - heavy, and only there in the forge environment

    class Progress(TrainerCallback):  # type: ignore[misc]  # transformers is not there when types are checked
        """Says after every step how far the training is."""

        def on_log(self, _arguments: Any, state: Any, _control: Any, logs: Any = None, **_others: Any) -> None:
            if logs and "loss" in logs:
                reporter.say("step", step=state.global_step, of=state.max_steps, loss=logs["loss"])

    return Progress()


def save_adapter(model: Any, folder: Path, base_name: str) -> None:
    """Write the adapter; its configuration names the base model, not this machine's folders, in a stable order."""
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(str(folder))
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = base_name
    config["target_modules"] = sorted(config["target_modules"])
    path.write_text(json.dumps(config, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def work(job: Job, reporter: Reporter) -> dict[str, Any]:
    """Do a job; return its report."""
    output = Path(job.output)
    forge = Forge(job, reporter)
    rows, encoded, left_out = forge.fitting(Path(job.train))
    _, held_out, held_out_left_out = forge.fitting(Path(job.held_out))
    model, training = forge.train(rows, max(len(tokens.ids) for tokens in encoded))
    began = time.monotonic()
    candidate = forge.held_out_loss(model, held_out, "candidate")
    with model.disable_adapter():
        base = forge.held_out_loss(model, held_out, "base")
    evaluation_s = time.monotonic() - began
    if not (math.isfinite(candidate) and math.isfinite(base)):
        raise BadJob(f"held-out losses are not finite: base {base}, candidate {candidate}")
    save_adapter(model, output / "adapter", job.base_name)
    return {
        "settings": {
            name: value for name, value in asdict(job).items() if name not in {"model", "train", "held_out", "output"}
        },
        "precision": "bf16" if forge.bf16 else "fp32",
        "device": forge.device,
        "versions": {"python": platform.python_version(), **dict(_versions())},
        "training": training,
        "train_rows": len(rows),
        "held_out_rows": len(held_out),
        "too_long_rows": left_out + held_out_left_out,
        "train_tokens": sum(len(tokens.ids) for tokens in encoded),
        "held_out_answer_tokens": sum(len(tokens.ids) - tokens.answer_from for tokens in held_out),
        "base_loss": base,
        "candidate_loss": candidate,
        "evaluation_s": round(evaluation_s, 3),
    }


def _versions() -> Iterator[tuple[str, str]]:
    return ((name, version(name)) for name in PACKAGES)


def write_report(path: Path, report: dict[str, Any]) -> None:
    """Write the report whole or not at all: its presence says that the job is done."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(report, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    temporary.replace(path)


def main(arguments: Sequence[str] | None = None, doing: Callable[[Job, Reporter], dict[str, Any]] = work) -> int:
    """Run the program; return its exit code: 0 done, 1 failed, 2 a job that cannot be done as it is."""
    parser = argparse.ArgumentParser(description="Train one LoRA adapter and measure it against its base model.")
    parser.add_argument("job", type=Path, help="JSON file with the job")
    options = parser.parse_args(arguments)
    reporter = Reporter(own_stdout())
    try:
        job = read_job(options.job)
        os.environ.update(surroundings(job.threads))
        report = doing(job, reporter)
    except BadJob as error:
        sys.stderr.write(f"{error}\n")
        return 2
    write_report(Path(job.output) / "report.json", {**report, "seconds": round(reporter.elapsed_s(), 3)})
    reporter.say("done")
    return 0


if __name__ == "__main__":
    sys.exit(main())

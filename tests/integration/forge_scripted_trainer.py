"""Stands in for the training program: `forge_scripted_trainer.py PROGRAM JOB`; SCRIPTED_TRAINER says what it does.

win, lose: writes an adapter and a report with a better or worse candidate. fail: complains and exits 1. silent: says
nothing for ever. hold: writes a checkpoint and then trains for ever; once it finds a checkpoint it wins.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path


def main() -> int:
    job = json.loads(Path(sys.argv[2]).read_text())
    output = Path(job["output"])
    how = os.environ["SCRIPTED_TRAINER"]
    checkpoint = output / "checkpoints" / "checkpoint-5"
    print(json.dumps({"event": "loading", "elapsed_s": 0.0}), flush=True)  # noqa: T201
    if how == "fail":
        sys.stderr.write("first line\nRuntimeError: out of memory\n")
        return 1
    if how == "silent":
        threading.Event().wait()
    if how == "hold":
        if not checkpoint.exists():
            checkpoint.mkdir(parents=True)
            (output / "pid").write_text(str(os.getpid()))
            threading.Event().wait()
        print(json.dumps({"event": "resuming", "checkpoint": checkpoint.name}), flush=True)  # noqa: T201
    print(json.dumps({"event": "step", "step": 1, "of": 2, "loss": 2.0}), flush=True)  # noqa: T201
    print(json.dumps({"event": "evaluating", "what": "base", "done": 1, "of": 1}), flush=True)  # noqa: T201
    (output / "adapter").mkdir(exist_ok=True)
    (output / "adapter" / "adapter_config.json").write_text("{}")
    (output / "adapter" / "adapter_model.safetensors").write_bytes(how.encode())
    report = {
        "base_loss": 2.0,
        "candidate_loss": 2.5 if how == "lose" else 1.0,
        "train_rows": 8,
        "held_out_rows": 2,
        "held_out_answer_tokens": 40,
        "too_long_rows": 0,
        "seconds": 1.5,
        "training": {"steps": 2, "resumed_from": checkpoint.name if checkpoint.exists() else ""},
        "settings": {"epochs": job["epochs"]},
        "versions": {},
        "precision": "fp32",
        "device": "cpu",
    }
    (output / "report.json").write_text(json.dumps(report))
    print(json.dumps({"event": "done"}), flush=True)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())

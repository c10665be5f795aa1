"""What a new image is filled with."""

from __future__ import annotations

import ast
import builtins
from pathlib import Path
from typing import Any

import pytest

from batos import mind as image_mind
from batos.kernel import genesis, interface
from batos.kernel.genesis.sources import METHODS_PACKAGE
from batos.kernel.genesis.states import FACET_ASKING
from batos.kernel.migrations import MIGRATIONS
from batos.mind.lobby import LOBBY_SLOTS, PERSONAS
from batos.mind.migrations import Cursor, Migrations, Owner, Runner, Step
from batos.uvm import (
    DataGuardian,
    IdentityGuardian,
    Image,
    Root,
    install_method,
    method_history,
    open_image,
    slots,
    understands,
)

METHOD_FILES = sorted(
    path.stem for path in (Path(genesis.__file__).parent / "methods").glob("*.py") if path.stem != "__init__"
)


def test_everything_stands_in_the_lobby(image: Image) -> None:
    """After genesis the lobby is whole, and the organization keeps its covenant."""
    with image.snapshot() as root:
        lobby = root["lobby"]
        assert set(LOBBY_SLOTS) <= set(slots(lobby))
        assert lobby.pLLM_obj.lora_repository is not None
        for name in ("infer_", "infer_all_"):
            assert understands(lobby.pLLM_obj, name)
        assert understands(lobby.orchestrator_obj, "start_cognitive_cycle_for_")
        IdentityGuardian.check(root)


def test_four_personas_with_three_pillars_each(image: Image) -> None:
    """Each persona has a codex, DNA and three pillars, and understands a facet message for each pillar."""
    with image.snapshot() as root:
        found = []
        for name in PERSONAS:
            persona = image_mind.persona(root, name)
            assert persona.name == name
            assert {"archetype", "asks", "duty", "voice"} <= set(persona.codex)
            assert {"temperature", "base_model_id", "version", "adapters", "previous"} == set(persona.dna)
            for facet in persona.pillars:
                assert understands(persona, f"{facet}_facet_")
                found.append(facet)
        assert tuple(found) == genesis.FACETS
        assert len(set(found)) == 12


def test_covenants_are_bounded_schemas(image: Image) -> None:
    """ALFRED's codex holds the schemas of plan and answer, and models can be made from them."""
    with image.snapshot() as root:
        covenants = image_mind.persona(root, "ALFRED").codex["covenants"]
        assert set(covenants) == {"mission_plan", "answer"}
        for name, schema in covenants.items():
            DataGuardian.model_from_schema(name, schema)
    for state in genesis.STATES.values():
        for example in state.get("examples", ()):
            DataGuardian.validate(genesis.COVENANTS["mission_plan"], example["plan"])


def test_seeding_again_changes_nothing(image: Image) -> None:
    """A second awakening finds everything there and commits nothing."""
    before = image.last_tid()
    image.run(genesis.seed)
    assert image.last_tid() == before


def test_what_was_changed_stays_changed(image: Image) -> None:
    """A later awakening leaves alone what the Architect or the mind has changed, and makes objects that are missing."""

    def change(root: Any) -> None:
        install_method(root["lobby"].pLLM_obj, "infer_", "def infer_(self, host, prompt):\n    return 1\n", author="a")
        traits = root["lobby"].traits_obj
        traits.facet_max_tokens = 7
        source = "def facet_prompt(self):\n    return 'mine'\n"
        install_method(traits, "facet_prompt", source, author="architect")
        del traits.facet_repeat_penalty
        del root["lobby"].psm_prototypes_obj.VALIDATING

    image.run(change)
    image.run(genesis.seed)
    with image.snapshot() as root:
        history = method_history(root["lobby"].pLLM_obj, "infer_")
        assert [version.author for version in history] == ["genesis", "a"]
        assert root["lobby"].traits_obj.facet_max_tokens == 7
        assert root["lobby"].traits_obj.facet_prompt() == "mine"
        assert not understands(root["lobby"].traits_obj, "facet_repeat_penalty")
        assert root["lobby"].psm_prototypes_obj.VALIDATING.name == "VALIDATING"


class Pace:
    """A migration of a next release, whose personas have one more slot."""

    number = interface.IMAGE.newest + 1
    title = "the personas have a pace"

    def total(self, root: Root) -> int:
        del root
        return 1

    def step(self, root: Root, cursor: Cursor) -> Step:
        del cursor
        root["lobby"].traits_obj.pace = 3
        return Step(None, 1, 1)


def test_a_next_release_brings_data_by_a_migration(
    image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once: what is taken away later stays away. A new image is born with it; an awakening alone brings none."""
    monkeypatch.setitem(FACET_ASKING, "pace", 3)
    with open_image(f"file://{tmp_path}/born.fs") as born:
        born.run(genesis.seed)
        with born.snapshot() as root:
            assert root["lobby"].traits_obj.pace == 3
    image.run(genesis.seed)
    with image.snapshot() as root:
        assert not understands(root["lobby"].traits_obj, "pace")
    migrations, owner = Migrations([*MIGRATIONS, Pace()]), Owner("kernel-1", "k1")
    assert len(Runner(image, migrations, owner).run()) == 1
    with image.transaction() as root:
        assert root["lobby"].brick_prototype_obj.pace == 3
        del root["lobby"].traits_obj.pace
    image.run(genesis.seed)
    assert Runner(image, migrations, owner).run() == []
    with image.snapshot() as root:
        assert not understands(root["lobby"].traits_obj, "pace")


def test_image_opens_in_a_fresh_process(tmp_path: Path) -> None:
    """A seeded image that is closed and opened again holds the same mind."""
    uri = f"file://{tmp_path}/live_image.fs"
    with open_image(uri) as image:
        image.run(genesis.seed)
    with open_image(uri) as image, image.snapshot() as root:
        IdentityGuardian.check(root)
        assert root["lobby"].genesis_obj.mission_id == genesis.GENESIS_MISSION_ID


@pytest.mark.parametrize("file", METHOD_FILES)
def test_live_methods_stand_alone(file: str) -> None:
    """A shipped live method uses nothing of its file but itself, so that its copy in a slot works."""
    for name, source in genesis.method_sources(file).items():
        declared, function = ast.parse(source).body
        assert ast.unparse(declared).startswith("HOST = ")
        assert isinstance(function, ast.FunctionDef)
        assert name == function.name
        assert function.args.args[0].arg == "self"
        bound = {
            node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }
        bound |= {
            argument.arg for node in ast.walk(function) if isinstance(node, ast.arguments) for argument in node.args
        }
        bound |= {
            alias.asname or alias.name
            for node in ast.walk(function)
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for alias in node.names
        }
        used = {node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
        assert used - bound <= set(dir(builtins)), f"{METHODS_PACKAGE}.{file}.{name}"


def test_genesis_mission(mind: Any) -> None:
    """The mission with which the mind introduces itself has a fixed id, and ALFRED weaves its answer."""
    ticket = mind.accept(
        genesis.GENESIS_MISSION_TEXT, weaver=genesis.GENESIS_WEAVER, mission_id=genesis.GENESIS_MISSION_ID
    )
    assert mind.cycle(ticket).run().weaver == "ALFRED"

"""Fixtures that several packages' tests share; whatever needs torch imports it when it is used."""

from __future__ import annotations

import gc
import os
import signal
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from hydra import initialize_config_module
from hydra._internal.hydra import Hydra
from hydra.types import RunMode
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from tests.checkpoints import LoadedModel

# Where the tests run in the background, Ctrl-C is ignored, also by the programs they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ["HF_HUB_OFFLINE"] = "1"  # a name that does not resolve locally fails, it does not wait
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Several processes share the tests. Threads of their own would only take the cores from each other.
os.environ["OMP_NUM_THREADS"] = "1"

# A test that others hold up is slow, not wrong.
settings.register_profile(
    "shared_cores", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("shared_cores")


gc.disable()  # until everything is collected

LONGEST = ("test_packed_demo", "test_random_packs", "test_kill_storm")
"""The files whose slow tests take minutes each."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Makes the other cases of a test slow that by default is content with a few of them."""
    cases: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if item.get_closest_marker("few_cases") and not item.get_closest_marker("slow"):
            cases[item.nodeid.partition("[")[0]].append(item)
    for group in cases.values():
        (number,) = group[0].get_closest_marker("few_cases").args
        kept = {n * len(group) // number for n in range(number)}  # evenly spread
        for place, item in enumerate(group):
            if place not in kept:
                item.add_marker("slow")
    # The longest come first. At the end one process would work on them alone.
    items.sort(key=lambda item: item.path.stem not in LONGEST)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Spares the garbage collector what is there for good: all modules and all tests."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def composed_once() -> Iterator[None]:
    """Has Hydra compose a plain command once.

    It would compose it twice, at first only to learn whether `hydra.mode` makes it a sweep. That
    is set by an experiment or on the command line, and nowhere else.
    """
    ask_hydra = Hydra.get_mode

    def get_mode(hydra: Hydra, config_name: str | None, overrides: list[str]) -> RunMode | None:
        if any(word in text for text in overrides for word in ("experiment", "hydra", "include")):
            return ask_hydra(hydra, config_name, overrides)
        return None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Hydra, "get_mode", get_mode)
        yield


@pytest.fixture
def composed() -> Iterator[None]:
    """Lets `hydra.compose` find the configuration.

    Only for one test: while Hydra is initialized, no program can run in the same process.
    """
    from runners.options.register import register

    register()
    with initialize_config_module(version_base="1.3", config_module="conf"):
        yield


@pytest.fixture(scope="session", autouse=True)
def cache_of_datasets(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keeps what `datasets` caches out of the user's folders; it reads this when it is imported."""
    os.environ["HF_DATASETS_CACHE"] = str(tmp_path_factory.mktemp("datasets"))


@pytest.fixture(scope="session")
def one_torch_thread() -> None:
    """Makes torch compute on one thread, as the recorded figures were computed."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def offline_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """W&B, writing below tmp_path: its session, one a process, ends with the test.

    W&B reads its variables once, when the session begins: the next test's would be ignored.
    """
    wandb = pytest.importorskip("wandb", reason="needs the extra `wandb`")
    wandb.teardown()
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    yield wandb
    wandb.teardown()


@pytest.fixture(scope="session")
def tiny_tower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vision tower for images of 56 x 56 pixels, which become 16 patches."""
    from tests.checkpoints import make_tower

    return make_tower(tmp_path_factory.mktemp("models") / "clip-tiny-56")


@pytest.fixture(scope="session")
def tiny_checkpoint(tiny_tower: Path) -> Path:
    """A complete checkpoint in the original format; images are padded to a square."""
    from tests.checkpoints import make_checkpoint

    return make_checkpoint(tiny_tower.parent / "llava-v1.5-tiny", tiny_tower)


@pytest.fixture(scope="session")
def anyres_checkpoint(tiny_tower: Path) -> Path:
    """A checkpoint that cuts images into tiles of 56 x 56 pixels and drops their padding."""
    from tests.checkpoints import make_checkpoint

    return make_checkpoint(
        tiny_tower.parent / "llava-v1.6-vicuna-tiny",
        tiny_tower,
        seed=1,
        image_aspect_ratio="anyres",
        image_grid_pinpoints=[[56, 112], [112, 56], [112, 112], [168, 56], [56, 168]],
        mm_patch_merge_type="spatial_unpad",
    )


@pytest.fixture(scope="session")
def tiny_model(tiny_checkpoint: Path, one_torch_thread: None) -> LoadedModel:
    """The checkpoint, loaded once in float32 on the CPU; tests leave it as they found it."""
    from llava.model.builder import load_pretrained_model
    from llava.names import get_model_name_from_path
    from tests.checkpoints import LoadedModel

    name = get_model_name_from_path(str(tiny_checkpoint))
    loaded = load_pretrained_model(str(tiny_checkpoint), None, name, device="cpu", dtype="float32")
    return LoadedModel(*loaded)

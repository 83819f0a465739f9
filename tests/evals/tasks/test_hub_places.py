"""Every benchmark with a mirror says which data set on the hub it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from runners.options.build import default_spec

CONF = Path(__file__).parents[3] / "conf" / "task"
WITHOUT = {"custom", "llavabench", "mmvet"}


def tasks() -> list[str]:
    single = (path for path in CONF.glob("*.yaml") if "_target_" in OmegaConf.load(path))
    return sorted(path.stem for path in single)


@pytest.mark.parametrize("name", tasks())
def test_default_split_has_its_place(name: str) -> None:
    spec = default_spec(name)
    hub = None if spec is None else spec.build().hub
    assert (hub is None) == (name in WITHOUT)
    assert hub is None or hub.repo.count("/") == 1


def test_generated_data_are_on_no_hub() -> None:
    for name in ("gqa", "vqav2", "scienceqa"):
        spec = default_spec(name)
        assert spec is not None
        assert spec.with_options({"split": "demo"}).build().hub is None

"""The name of a run: the model, and every option that differs from its default and matters."""

from __future__ import annotations

from llava.names import get_model_name_from_path
from runners.config import EvalConfig, GenerationOptions, SubjectConfig
from runners.errors import ConfigError
from runners.shard import read_shard


def model_name(settings: SubjectConfig) -> str:
    """Returns the model's name: the one that is given, else from its path.

    Raises:
        ConfigError: there is no path.
    """
    if settings.model.name:
        return settings.model.name
    name = get_model_name_from_path(settings.model.path)
    if name in ("", ".", ".."):
        raise ConfigError(
            f"`model.path` must name a folder, but is {settings.model.path!r}. Write the "
            "folder's name out, or give model.name=NAME."
        )
    return name


def run_name(settings: EvalConfig) -> str:
    """Returns the folder name of a run, for example `llava-demo-limit20`.

    A part of a run ends with which one it is, whatever the name.

    Raises:
        ConfigError: `run` is no name of a folder.
    """
    shard = read_shard(settings.runner.get("shard"))
    return "-".join([_whole_name(settings), *([shard.suffix] if shard else [])])


def _whole_name(settings: EvalConfig) -> str:
    if settings.run is not None:
        if settings.run in ("", ".", "..") or "/" in settings.run:
            raise ConfigError(
                f"`run` must be a name without slashes, but is {settings.run!r}. Use "
                "results_dir=DIR to keep runs elsewhere."
            )
        return settings.run
    parts = [model_name(settings).replace("/", "_")]
    if settings.quantization.name != "none":
        parts.append(settings.quantization.name)
    if settings.dtype is not None:
        parts.append(settings.dtype)
    if settings.conversation.template is not None:
        parts.append(settings.conversation.template)
    parts += _generation_parts(settings)
    if settings.limit is not None:
        parts.append(f"limit{settings.limit}")
    return "-".join(parts)


def _generation_parts(settings: EvalConfig) -> list[str]:
    chosen, default = settings.generation, GenerationOptions()
    parts = [
        f"{name}{getattr(chosen, name)}"
        for name in ("temperature", "top_p", "num_beams", "max_new_tokens")
        if getattr(chosen, name) != getattr(default, name)
    ]
    if chosen.temperature > 0 and settings.seed:
        parts.append(f"seed{settings.seed}")
    return parts

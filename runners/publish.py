"""Writes a run as results for a model's page on the hub: `python -m runners.publish run=... `.

One YAML file a benchmark, as the hub reads them from a model's repository, and a table for the
model card. They are sent as a pull request only where that is asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from evals.errors import DataError
from runners.errors import COMPLETE, INCOMPLETE, ConfigError
from runners.logs import RunLog, mask_secrets
from runners.options import program
from runners.options.build import named_tasks, read_settings
from runners.options.publish import PublishConfig
from runners.storage.files import write_atomic
from runners.storage.stored import StoredRun, find_run
from runners.views.publishing.results import (
    CARD,
    FOLDER,
    Result,
    clear,
    read_result,
    render_card,
    render_files,
)

logger = logging.getLogger(__name__)


def publish(config: DictConfig) -> int:
    """Writes and perhaps sends the results of one composed configuration; returns the exit code."""
    named = named_tasks(config)
    config.tasks, config.data = {}, {}  # nothing is read of them, so they need not be complete
    settings = read_settings(config, PublishConfig)
    with RunLog():
        run = find_run(settings.run, Path(settings.results_dir), "run")
        _check_named(run, named)
        output = Path(settings.output or run.folder / "hub")
        foreign = clear(output)
        results = _read_results(run, named)
        files, card = render_files(results), render_card(results)
        if settings.create_pr and not files:
            raise ConfigError(
                "`create_pr` has nothing to send: no benchmark of the run is on a data set of the "
                "hub. Leave it out; model_card.md is written without it."
            )
        for path in foreign:
            if path.name in files:
                raise ConfigError(
                    f"{path} is not from this program and would be replaced. Remove it, or give "
                    "another folder with output=DIR."
                )
            logger.warning("%s is not from this program, and stays as it is", path)
        for name, content in files.items():
            write_atomic(output / FOLDER / name, content)
        write_atomic(output / CARD, card)
        print(card)
        logger.info(
            "written to %s: %s", output, ", ".join([*(f"{FOLDER}/{f}" for f in files), CARD])
        )
        if not settings.create_pr:
            logger.info("nothing was sent; create_pr=true opens a pull request")
            return COMPLETE
        return _send(str(settings.repo), run.name, files, card, output)


def _check_named(run: StoredRun, named: Sequence[str]) -> None:
    if missing := [name for name in named if name not in run.tasks]:
        raise ConfigError(
            f"`task` names {missing[0]}, which {run.folder} does not have. There are: "
            f"{', '.join(run.tasks)}."
        )


def _read_results(run: StoredRun, named: Sequence[str]) -> list[Result]:
    """The benchmarks of a run; one that is named must be fit to be published, others are told."""
    results, refused = [], []
    for name in named or run.tasks:
        try:
            result = read_result(run.tasks[name])
        except (ConfigError, DataError) as error:
            refused.append(str(error))
            continue
        results.append(result)
        if result.location is None:
            where = f"no data set on the hub is known for {name} {result.summary.split}"
            if named:
                refused.append(f"{where}.")
            else:
                logger.warning("%s: it is in %s alone", where, CARD)
    if refused and (named or not results):
        raise ConfigError(f"{run.folder} cannot be published: {' '.join(refused)}")
    for reason in refused:
        logger.warning("not published: %s", reason)
    return results


def _send(repo: str, run: str, files: Mapping[str, str], card: str, output: Path) -> int:
    """Opens one pull request with all files; returns the exit code."""
    from huggingface_hub import CommitOperationAdd, HfApi, errors

    additions = [
        CommitOperationAdd(path_in_repo=f"{FOLDER}/{name}", path_or_fileobj=content.encode())
        for name, content in files.items()
    ]
    try:
        commit = HfApi().create_commit(
            repo_id=repo,
            operations=additions,
            commit_message=f"Add evaluation results of {run}",
            commit_description=card,
            create_pr=True,
        )
    except (errors.HTTPError, OSError, ValueError) as error:  # type: ignore[attr-defined]
        logger.error(
            "The hub has not taken the pull request to %s: %s. Log in with `hf auth login`, and "
            "repeat the command; the files are in %s.",
            repo,
            mask_secrets(str(error).strip()),
            output,
        )
        return INCOMPLETE
    print(f"pull request: {commit.pr_url}")
    return COMPLETE


main = partial(program.main, "publish", publish)

if __name__ == "__main__":
    main()

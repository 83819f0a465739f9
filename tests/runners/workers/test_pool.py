"""Several workers: who gets what, and what happens when one dies, hangs or stays behind."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evals.records import Failure, Sample
from llava.generation.calibration import MEASURE_EVERY, Calibration
from llava.generation.request import (
    Completion,
    EngineReport,
    GenerationConfig,
    ImageProbe,
    Request,
)
from runners.errors import ConfigError, WorkerError
from runners.evaluation.work import cut_into_pieces
from runners.lab.bench.workloads import build_workload
from runners.options.engine import EngineOptions, PackedOptions, SequentialOptions
from runners.workers.interface import Result
from runners.workers.loaded_files import Hashes
from runners.workers.local import LocalWorker
from runners.workers.messages import LoadModel
from runners.workers.pool import LocalWorkers
from runners.workers.process import Seat
from runners.workers.slot import MAX_DEATHS_IN_A_ROW
from tests.faults.engines import FaultyOptions
from tests.runners.task_runs import estimate_piece
from tests.runners.workers.processes import pid_of, send_signal, wait_for_all

SEQUENTIAL = SequentialOptions()
IDS = np.array([1, 300, 301, 302], dtype=np.int32)


def faulty(**options: Any) -> FaultyOptions:
    return FaultyOptions(replay="off", **options)


def order(checkpoint: Path, engine: EngineOptions, dtype: str = "float32") -> LoadModel:
    return LoadModel(
        path=str(checkpoint), base=None, name=checkpoint.name, dtype=dtype, engine=engine
    )


def items(number: int, size: int, max_new_tokens: int = 2) -> list[tuple[Request, ...]]:
    generation = GenerationConfig(max_new_tokens=max_new_tokens)
    keys = iter(range(number * size))
    return [
        tuple(
            Request(key=str(next(keys)), prompt_ids=IDS, generation=generation) for _ in range(size)
        )
        for _ in range(number)
    ]


def results_of(answers: Iterator[Result | None]) -> list[Result]:
    return [result for result in answers if result is not None]


def keys(results: Sequence[Result], kind: type) -> list[str]:
    return sorted(
        (result.result.key for result in results if isinstance(result.result, kind)), key=int
    )


def numbers(count: int, *without: str) -> list[str]:
    return [str(number) for number in range(count) if str(number) not in without]


@pytest.fixture
def pool() -> Iterator[LocalWorkers]:
    with closing(LocalWorkers(num_workers=2, num_threads=1, hang_s=4.0)) as workers:
        workers.start("cpu")
        yield workers


@pytest.mark.slow
def test_two_workers_share_the_work_and_the_threshold(
    pool: LocalWorkers, tiny_checkpoint: Path
) -> None:
    pool.load(order(tiny_checkpoint, PackedOptions(), "bfloat16"))
    wait_for_all(pool)
    pool.brief(600, Calibration())
    results = results_of(pool.answer(items(40, 15, max_new_tokens=1)))
    assert keys(results, Completion) == numbers(600)
    by_worker = Counter(result.worker for result in results)
    assert set(by_worker) == {"local-0", "local-1"}
    report = pool.report()
    assert report.num_packed == 600
    assert report.calibration.num_answers == 600
    # together, not each
    assert 0 < report.calibration.num_measured <= 600 // MEASURE_EVERY


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "cause", "said"),
    [
        ("exit", "worker_died", "exit code 7"),
        pytest.param("kill", "worker_died", "signal 9", marks=pytest.mark.slow),
        pytest.param("hang", "worker_hung", "computed nothing for 4 s", marks=pytest.mark.alone),
    ],
)
def test_poisonous_question_is_recorded_alone_and_all_others_are_answered(
    pool: LocalWorkers, tiny_checkpoint: Path, fault: str, cause: str, said: str
) -> None:
    pool.load(order(tiny_checkpoint, faulty(fault=fault, keys="5")))
    results = results_of(pool.answer(items(3, 2)))
    assert keys(results, Completion) == numbers(6, "5")
    [failure] = [r.result for r in results if isinstance(r.result, Failure)]
    assert (failure.key, failure.cause) == ("5", cause)
    assert said in failure.message
    assert pool.num_alive == 2


@pytest.mark.slow
def test_worker_that_dies_once_loses_nothing(
    pool: LocalWorkers, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    engine = faulty(fault="kill", keys="9", once=str(tmp_path / "once"))
    pool.load(order(tiny_checkpoint, engine))
    results = results_of(pool.answer(items(6, 3)))
    assert keys(results, Completion) == numbers(18)
    assert (tmp_path / "once").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "cause"), [("oom", "out_of_memory"), ("raise", "error")])
def test_errors_and_want_of_memory_do_not_cost_the_worker(
    fault: str, cause: str, pool: LocalWorkers, tiny_checkpoint: Path
) -> None:
    pool.load(order(tiny_checkpoint, faulty(fault=fault, keys="1,7")))
    pids = [pid_of(slot.process) for slot in pool._slots if slot.process]
    results = results_of(pool.answer(items(3, 4)))
    assert keys(results, Completion) == numbers(12, "1", "7")
    assert {r.result.cause for r in results if isinstance(r.result, Failure)} == {cause}
    assert [pid_of(slot.process) for slot in pool._slots if slot.process] == pids
    assert (pool.report().num_halvings > 0) == (fault == "oom")


@pytest.mark.alone
def test_worker_that_is_five_times_slower_gets_less_to_do(
    pool: LocalWorkers, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    slow = faulty(slow_worker=str(tmp_path / "marker"), slowness=5.0)
    pool.load(order(tiny_checkpoint, slow))
    wait_for_all(pool)
    results = results_of(pool.answer(items(60, 10, max_new_tokens=12)))
    assert keys(results, Completion) == numbers(600)
    counts = sorted(Counter(result.worker for result in results).values())
    assert counts[0] < 0.45 * counts[1]


@pytest.mark.alone
def test_frozen_worker_is_replaced(pool: LocalWorkers, tiny_checkpoint: Path) -> None:
    pool.load(order(tiny_checkpoint, SEQUENTIAL))
    answers = pool.answer(items(4, 30, max_new_tokens=8))
    results = []
    frozen = None
    for result in answers:
        if result is not None:
            results.append(result)
        if frozen is None and results:
            frozen = next(s.process for s in pool._slots if s.seat.name == results[0].worker)
            assert frozen is not None
            send_signal(frozen, signal.SIGSTOP)
    assert keys(results, Completion) == numbers(120)


@pytest.mark.slow
def test_stop_lets_the_item_in_flight_end_and_begins_no_other(
    pool: LocalWorkers, tiny_checkpoint: Path
) -> None:
    pool.load(order(tiny_checkpoint, SEQUENTIAL))
    answers = pool.answer(items(10, 6, max_new_tokens=16))
    results = []
    for result in answers:
        if result is not None:
            results.append(result)
            if len(results) == 2:
                pool.stop()
    finished = Counter(int(key) // 6 for key in keys(results, Completion))
    assert set(finished.values()) == {6}
    assert 1 <= len(finished) <= 4


@pytest.mark.slow
def test_worker_that_cannot_be_kept_alive_ends_the_run_with_what_is_stored(
    tiny_checkpoint: Path,
) -> None:
    every = ",".join(numbers(2000))
    with closing(LocalWorkers(num_workers=1, num_threads=1)) as pool:
        pool.start("cpu")
        pool.load(order(tiny_checkpoint, faulty(fault="exit", keys=every)))
        for slot in pool._slots:
            slot.deaths_in_a_row = MAX_DEATHS_IN_A_ROW - 1
        with pytest.raises(WorkerError, match="same command"):
            results_of(pool.answer(items(40, 2)))


@pytest.mark.slow
def test_replaced_worker_must_find_the_same_weights(
    pool: LocalWorkers, tiny_checkpoint: Path
) -> None:
    pool.load(order(tiny_checkpoint, SEQUENTIAL))
    pool._files = {"checkpoint": {"weights": "another"}}
    with pytest.raises(WorkerError, match="other weights"):
        results_of(pool.answer(items(40, 6, max_new_tokens=16)))


@pytest.mark.slow
def test_image_over_which_a_worker_dies_does_not_keep_the_run_from_beginning(
    pool: LocalWorkers, tiny_checkpoint: Path
) -> None:
    pool.load(order(tiny_checkpoint, faulty(fault="exit", keys="1", probes=True)))
    [requests] = items(1, 3)
    first, dead, last = pool.probe(requests)
    assert isinstance(dead, Failure)
    assert (dead.key, dead.cause) == ("1", "worker_died")
    assert all(isinstance(found, ImageProbe) for found in (first, last))
    results = results_of(pool.answer(items(2, 3)))
    assert keys(results, Completion) == numbers(6, "1")
    assert pool.num_alive == 2


def kill_first(pool: LocalWorkers) -> None:
    process = pool._slots[0].process
    assert process is not None
    send_signal(process, signal.SIGKILL)


@pytest.mark.slow
def test_first_worker_that_dies_before_there_is_work_is_started_again(
    pool: LocalWorkers, tiny_checkpoint: Path
) -> None:
    kill_first(pool)
    assert pool.wait_until_ready().devices == ("cpu",)
    kill_first(pool)
    assert pool.load(order(tiny_checkpoint, SEQUENTIAL)).report["content_hash"]
    results = results_of(pool.answer(items(2, 2)))
    assert keys(results, Completion) == numbers(4)


@pytest.mark.alone
def test_first_worker_that_is_frozen_before_there_is_work_is_started_again(
    pool: LocalWorkers, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runners.workers.slot.START_LIMIT_S", 15.0)
    pool.wait_until_ready()
    process = pool._slots[0].process
    assert process is not None
    send_signal(process, signal.SIGSTOP)
    assert pool.load(order(tiny_checkpoint, SEQUENTIAL)).report["content_hash"]


def test_first_worker_that_dies_again_and_again_ends_the_run() -> None:
    class Dying(LocalWorkers):
        def _spawn(self, seat: Seat) -> LocalWorker:
            worker = super()._spawn(seat)
            send_signal(worker, signal.SIGKILL)
            return worker

    with closing(Dying(num_workers=1, num_threads=1)) as pool:
        pool.start("cpu")
        with pytest.raises(WorkerError, match=r"signal 9.* 3 times"):
            pool.wait_until_ready()


@pytest.mark.slow
def test_broken_checkpoint_is_bad_input(tmp_path: Path) -> None:
    with closing(LocalWorkers(num_workers=1, num_threads=1)) as pool:
        pool.start("cpu")
        with pytest.raises(ConfigError, match=r"config\.json"):
            pool.load(order(tmp_path, SEQUENTIAL))


def test_closing_twice_or_unstarted_does_no_harm() -> None:
    pool = LocalWorkers()
    pool.close()
    pool.start("cpu")
    pool.close()
    pool.close()


BEGAN: Hashes = {"checkpoint": {"weights": "a", "config.json": "b"}, "tower": {"weights": "c"}}


class SimulatedWorker:
    """Takes as long over an item as its requests say, in a thread instead of a process."""

    def __init__(
        self, seconds_of: dict[str, float], files: Hashes = BEGAN, bad: Sequence[str] = ()
    ) -> None:
        import multiprocessing
        import threading

        from runners.workers.messages import Answered, ItemDone, ModelLoaded, WorkItem

        self.connection, theirs = multiprocessing.Pipe()

        def work() -> None:
            loaded = ModelLoaded(
                load_s=0.0, report={}, files=files, attention="sdpa", max_tokens=None
            )
            theirs.send(loaded)
            while True:
                try:
                    message = theirs.recv()
                except (EOFError, OSError):
                    return
                if isinstance(message, WorkItem):
                    if any(request.key in bad for request in message.requests):
                        theirs.close()
                        return
                    time.sleep(sum(seconds_of[request.key] for request in message.requests))
                    for request in message.requests:
                        theirs.send(
                            Answered(
                                results=(Failure(key=request.key, cause="simulated", message=""),)
                            )
                        )
                    theirs.send(ItemDone(number=message.number, report=EngineReport()))

        def work_until_closed() -> None:
            with suppress(OSError):  # the parent has closed its end
                work()

        threading.Thread(target=work_until_closed, daemon=True).start()

    def send(self, message: Any) -> None:
        with suppress(OSError):  # it is lost on a dead worker, as a real one's is
            self.connection.send(message)

    def receive(self) -> Any:
        try:
            return self.connection.recv()
        except OSError as error:  # it had not read all that it was sent
            raise EOFError from error

    def kill(self, *, after_s: float = 0.0) -> int:  # noqa: ARG002
        self.connection.close()
        return -9


def simulate(num_workers: int, costs: list[float], speeds: Sequence[float]) -> float:
    """Seconds that simulated workers take over single-request items, heaviest first."""

    class Simulated(LocalWorkers):
        def _spawn(self, seat: Any) -> Any:
            slowness = 1 / speeds[seat.number]
            return SimulatedWorker({str(i): c * slowness for i, c in enumerate(costs)})

    with closing(Simulated(num_workers=num_workers)) as pool:
        pool.start("cpu")
        pool._files = BEGAN
        heaviest_first = sorted(range(len(costs)), key=lambda number: -costs[number])
        work = [(Request(key=str(number), prompt_ids=IDS),) for number in heaviest_first]
        wait_for_all(pool)
        started = time.monotonic()
        assert len(results_of(pool.answer(work))) == len(costs)
        return time.monotonic() - started


@pytest.mark.parametrize(
    ("found", "named"),
    [
        ({"tower": {"weights": "x"}}, r"other weights .*\(weights of the tower\)"),
        ({"checkpoint": {"config.json": "x"}}, r"other files .*\(config.json of the checkpoint\)"),
        ({"tower": {"preprocessor_config.json": "x"}}, r"preprocessor_config.json of the tower"),
        ({"base": {"tokenizer.model": "x"}}, r"tokenizer.model of the base"),
        ({"adapter": {"weights": "x"}}, r"weights of the adapter"),
    ],
)
def test_worker_that_loads_later_must_have_read_the_same_files(
    found: dict[str, dict[str, str]], named: str
) -> None:
    files = {role: {**BEGAN.get(role, {}), **found.get(role, {})} for role in (*BEGAN, *found)}

    class Simulated(LocalWorkers):
        def _spawn(self, seat: Any) -> Any:
            return SimulatedWorker(dict.fromkeys("0123", 0.01), files if seat.number else BEGAN)

    with closing(Simulated(num_workers=2)) as pool:
        pool.start("cpu")
        pool._files = BEGAN
        with pytest.raises(WorkerError, match=named):
            wait_for_all(pool)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_many_bad_questions_side_by_side_are_found_and_all_others_answered(
    num_workers: int,
) -> None:
    every, bad = numbers(120), numbers(90)

    class Simulated(LocalWorkers):
        def _spawn(self, seat: Any) -> Any:  # noqa: ARG002
            return SimulatedWorker(dict.fromkeys(every, 0.0), bad=bad)

    with closing(Simulated(num_workers=num_workers)) as pool:
        pool.start("cpu")
        pool._files, pool._order = BEGAN, order(Path(), SEQUENTIAL)
        work = tuple(Request(key=key, prompt_ids=IDS) for key in every)
        results = results_of(pool.answer([work[:60], work[60:]]))
    told = {r.result.key: r.result.cause for r in results if isinstance(r.result, Failure)}
    assert len(results) == len(told) == 120
    assert {key for key, cause in told.items() if cause == "worker_died"} == set(bad)


@pytest.mark.slow
def test_worker_that_dies_over_everything_is_given_up_while_another_answers() -> None:
    every = numbers(200)

    class Simulated(LocalWorkers):
        def _spawn(self, seat: Any) -> Any:
            bad = every if seat.number else ()
            return SimulatedWorker(dict.fromkeys(every, 0.02), bad=bad)

    with closing(Simulated(num_workers=2)) as pool:
        pool.start("cpu")
        pool._files, pool._order = BEGAN, order(Path(), SEQUENTIAL)
        results = results_of(pool.answer([(Request(key=k, prompt_ids=IDS),) for k in every]))
        assert [slot.process is not None for slot in pool._slots] == [True, False]
    assert len(results) == 200


@pytest.mark.slow
def test_slow_worker_does_not_hold_up_the_others() -> None:
    rng = np.random.default_rng(0)
    costs = list(rng.uniform(0.01, 0.06, 120))
    best_s = 1.15 * sum(costs) / (1 + 1 / 3)
    # tests beside this one may hold it up, but hardly three times
    assert any(simulate(2, costs, [1.0, 1 / 3]) <= best_s for _ in range(3))


@pytest.mark.alone
def test_eight_workers_are_nearly_eight_times_as_fast() -> None:
    """The items of a real plan: GQA's group sizes, cut as the programs cut them."""
    samples = [
        Sample(
            key=request.key,
            question_id=request.key,
            text="x" * 4 * len(request.prompt_ids),
            prompt="",
            images=request.images,
        )
        for request in build_workload("gqa", 398, 1000, seed=0)
    ]
    pieces = cut_into_pieces(samples, 576, num_workers=8)
    tokens = [estimate_piece(piece, 576) for piece in pieces]
    costs = [40.0 * cost / sum(tokens) for cost in tokens]
    assert simulate(8, costs, [1.0] * 8) <= 40.0 / 7.6

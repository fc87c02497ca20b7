"""From a tick record to a chunk: what is published, what is dropped, what is waited for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from launched import unique_session

from rt import clock
from rt.child import Status
from rt.config import Config
from rt.errors import NoAnswerError, PolicyError
from rt.infer.modes import open_mode
from rt.infer.normalization import Normalizer
from rt.infer.observation import Observer
from rt.infer.pipeline import FAILURES_IN_A_ROW, Pipeline
from rt.records import POLICY_PARTS, STATUS, Hold, Outcome, Phase
from rt.session import Session, ring_table
from rt.testing import ScriptedPolicy, config

H, A = 8, 2


class Bench:
    """A session's rings without its processes: the test writes ticks and frames."""

    def __init__(self, **overrides: Any) -> None:
        self.config: Config = config(session=unique_session("pipe"), **overrides)
        self.session = Session(self.config.run.session)
        self.session.create(ring_table(self.config))
        self._ticks = self.session.writer("tick")
        self.chunks = self.session.reader("chunk")
        self.record = self._ticks.buffer()
        self.record["phase"], self.record["hold"] = Phase.RUN, Hold.NO_CHUNK
        self.record["chunk"] = -1
        self.cameras = {
            name: self.session.writer(f"frame.{name}") for name in self.config.params.camera_names
        }

    def tick(self, k: int, **fields: Any) -> Any:
        self.record["tick"], self.record["t_due"] = k, clock.now_ns()
        self.record["state"] = k
        for name, value in fields.items():
            self.record[name] = value
        self._ticks.write(self.record)
        return self.record

    def frame(self, camera: str, t_capture: int, value: int) -> None:
        frame = self.cameras[camera].buffer()
        frame["t_capture"], frame["image"] = t_capture, value
        self.cameras[camera].write(frame)

    def pipeline(self, script: Callable[[int, Any], Any] | None = None) -> Pipeline:
        options = {} if script is None else {"script": script}
        self.policy = ScriptedPolicy(action_chunk_size=H, action_dim=A, **options)
        mode = open_mode("rtc", self.config.params)
        normalizer = Normalizer.identity()
        return Pipeline(self.config, self.session, self.policy, normalizer, mode)


@pytest.fixture
def bench() -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(**overrides: Any) -> Bench:
        made.append(Bench(**overrides))
        return made[-1]

    yield make
    for each in made:
        each.session.clean()


def test_a_chunk_is_published_whole(bench: Callable[..., Bench]) -> None:
    b = bench()
    pipeline = b.pipeline()
    assert pipeline.step(b.tick(3, episode=2))
    chunk = b.chunks.buffer()
    assert b.chunks.read_latest(chunk) == 0
    assert (int(chunk["obs_tick"]), int(chunk["episode"]), int(chunk["cold"])) == (3, 2, 1)
    assert int(chunk["first_tick"]) > 3  # cold: the first tick after publication
    np.testing.assert_array_equal(chunk["actions"][:, 0], np.float32(1000 + np.arange(H)))
    assert b.policy.inputs[0]["proprio"].tolist() == [[3.0, 3.0]]


@pytest.mark.parametrize(
    "bad",
    [
        lambda n, c: np.where(np.arange(H)[:, None] == 5, np.nan, c),
        lambda n, c: c * np.inf,
        lambda n, c: c.astype(np.float64) * 1e300,  # more than a chunk's float32 can hold
        lambda n, c: c.astype(np.int64),
        lambda n, c: c[:-1],
        lambda n, c: c.tolist(),
        lambda n, c: None,
    ],
)
def test_a_bad_chunk_is_dropped_counted_and_never_seen(
    bench: Callable[..., Bench], bad: Callable[[int, Any], Any]
) -> None:
    b = bench()
    pipeline = b.pipeline(lambda n, c: bad(n, c) if n == 1 else c)
    assert pipeline.step(b.tick(0))
    assert (b.chunks.head, pipeline.dropped) == (0, 1)
    assert "expected" in pipeline.problem or "finite" in pipeline.problem
    assert pipeline.step(b.tick(1))  # at once: nothing was published
    chunk = b.chunks.buffer()
    assert b.chunks.read_latest(chunk) == 0
    assert pipeline.dropped == 1
    assert pipeline.problem == ""


@pytest.mark.parametrize("told", [(), ("network",), POLICY_PARTS])
def test_a_chunk_tells_the_parts_that_its_policy_tells(
    bench: Callable[..., Bench], told: tuple[str, ...]
) -> None:
    b = bench()
    pipeline = b.pipeline()
    latency = {part: i for i, part in enumerate(told, 1)}
    if told:
        setattr(b.policy, "latency", {f"{part}_ns": ns for part, ns in latency.items()})  # noqa: B010
    assert pipeline.step(b.tick(0))
    chunk = b.chunks.buffer()
    b.chunks.read_latest(chunk)
    for part in ("network", "queue", "encode"):
        assert chunk[f"{part}_ns"] == latency.get(part, 0)
    if "denoise" in latency:
        assert chunk["denoise_ns"] == latency["denoise"]
    else:  # it took all the time there was
        assert chunk["denoise_ns"] > len(POLICY_PARTS)


def test_a_policy_that_raises_costs_a_chunk_and_one_that_always_does_the_process(
    bench: Callable[..., Bench],
) -> None:
    b = bench()

    def raises(n: int, chunk: Any) -> Any:
        raise ValueError("out of memory")

    pipeline = b.pipeline(raises)
    for k in range(FAILURES_IN_A_ROW - 1):
        assert pipeline.step(b.tick(k))
    assert pipeline.dropped == FAILURES_IN_A_ROW - 1
    assert "out of memory" in pipeline.problem
    with pytest.raises(ValueError, match="out of memory"):
        pipeline.step(b.tick(99))
    assert b.chunks.head == 0


def test_a_policy_that_nobody_answers_may_be_asked_for_ever(bench: Callable[..., Bench]) -> None:
    b = bench()

    def silent(n: int, chunk: Any) -> Any:
        raise NoAnswerError("no answer within 1000 ms", Outcome.TOO_LATE)

    pipeline = b.pipeline(silent)
    for k in range(6 * FAILURES_IN_A_ROW):  # at 20 Hz, 3 s without a network
        assert pipeline.step(b.tick(k))
        assert pipeline.dropped == 0
        assert pipeline.problem == "no answer within 1000 ms"
    b.policy._script = lambda n, chunk: chunk
    assert pipeline.step(b.tick(99))
    assert (b.chunks.head, pipeline.problem) == (1, "")


@pytest.mark.parametrize("outcomes", [None, [5, 4, 3, 2, 1]])
def test_what_came_of_asking_is_in_the_status(bench: Callable[..., Bench], outcomes: Any) -> None:
    b = bench()
    pipeline = b.pipeline()
    if outcomes:
        setattr(b.policy, "outcomes", outcomes)  # noqa: B010  (an optional attribute)
    b.session.create({"status.inference": (STATUS, 8)})
    with Status(b.session, "inference") as status, b.session.reader("status.inference") as ring:
        pipeline.tell(status)
        told = ring.buffer()
        assert ring.read_latest(told) == 0
    assert told["outcomes"].tolist() == (outcomes or [0] * len(Outcome))


def test_warm_up_refuses_a_policy_of_another_shape_or_too_slow(bench: Callable[..., Bench]) -> None:
    with pytest.raises(PolicyError, match=r"\(7, 2\), expected \(8, 2\)"):
        bench().pipeline(lambda n, c: c[:-1]).warm_up()
    slow = bench(inject_delay_ms=300, min_num_actions_executed=4)  # 6 rows, 4 are left
    with pytest.raises(PolicyError, match=r"action_chunk_size 8.*min_num_actions_executed 4"):
        slow.pipeline().warm_up()
    far = bench(inject_delay_ms=300, min_num_actions_executed=4)
    asks = far.pipeline()
    setattr(far.policy, "latency", {"network_ns": 250_000_000})  # noqa: B010
    with pytest.raises(PolicyError, match=r"in warm-up, 250 ms of it the network's, but"):
        asks.warm_up()
    assert bench(inject_delay_ms=100).pipeline().warm_up() >= 0.1


def test_a_policy_that_has_become_slow_ends_no_session(bench: Callable[..., Bench]) -> None:
    b = bench(inject_delay_ms=300, min_num_actions_executed=4)  # 6 rows, 4 are left
    first = b.pipeline()
    first.step(b.tick(0))
    first._chunks.close()  # the process is dead
    assert b.pipeline().warm_up() >= 0.3  # of the process that was started in its place


def test_a_restarted_pipeline_goes_on_from_the_chunk_in_use(bench: Callable[..., Bench]) -> None:
    b = bench()
    first = b.pipeline()
    first.step(b.tick(0))
    first._chunks.close()  # the process is dead
    chunk = b.chunks.buffer()
    b.chunks.read_latest(chunk)
    start = int(chunk["first_tick"])

    second = b.pipeline()
    in_use = {"chunk": 0, "chunk_first_tick": start, "chunk_first_used_tick": start}
    assert second.step(b.tick(start + 4, hold=Hold.NONE, row=4.0, **in_use))
    assert b.chunks.read_latest(chunk) == 1  # ids go on
    assert (int(chunk["cold"]), int(chunk["s"]), int(chunk["previous_chunk"])) == (0, 4, 0)
    leftover = b.policy.inputs[0]["prev_action"][:, 0]
    assert leftover.tolist() == [1004.0, 1005.0, 1006.0, 1007.0, 1007.0, 1007.0, 1007.0, 1007.0]


def test_no_frame_an_old_one_and_one_of_an_older_episode_are_waited_for(
    bench: Callable[..., Bench],
) -> None:
    b = bench(camera_names=("head",), max_age_ms=500)
    observer = Observer(b.config, b.session)
    start = clock.now_ns()
    assert observer.observe(b.tick(0)) is None
    assert "no frame yet" in observer.waiting_for
    b.frame("head", start - 1, 1)
    assert observer.observe(b.tick(1, episode_t_start=start)) is None
    assert "this episode" in observer.waiting_for
    b.frame("head", start - 10**9, 2)
    assert observer.observe(b.tick(2, episode_t_start=0)) is None
    assert "old" in observer.waiting_for
    b.frame("head", clock.now_ns(), 3)
    seen = observer.observe(b.tick(3, episode_t_start=start))
    assert seen is not None
    assert seen["head"].shape == (1, 3, 6, 8)
    assert (seen["head"] == 3).all()
    assert observer.waiting_for == ""


def test_image_history_is_oldest_first_and_img_obs_every_rows_apart(
    bench: Callable[..., Bench],
) -> None:
    b = bench(camera_names=("head",), num_img_obs=3, img_obs_every=2, HZ=20.0)
    observer = Observer(b.config, b.session)
    now, step = clock.now_ns(), 25_000_000  # a camera at 40 Hz; two rows are 100 ms, 4 frames
    for i in range(-12, 1):
        b.frame("head", now + i * step, 100 + i)
    seen = observer.observe(b.tick(0))
    assert seen is not None
    assert seen["head"][:, 0, 0, 0].tolist() == [92, 96, 100]
    young = observer.observe(b.tick(1, episode_t_start=now - 5 * step))
    assert young is not None
    assert young["head"][:, 0, 0, 0].tolist() == [95, 96, 100]  # nothing from before the episode


@pytest.mark.parametrize("num_img_obs", [1, 3])
def test_images_are_observed_in_memory_of_the_caller_s_kind(
    bench: Callable[..., Bench], num_img_obs: int
) -> None:
    made: list[Any] = []

    def zeros(count: int, dtype: np.dtype[Any]) -> Any:
        made.append(np.zeros(count, dtype))
        return made[-1]

    b = bench(camera_names=("head",), num_img_obs=num_img_obs, HZ=20.0)
    observer = Observer(b.config, b.session, zeros)
    for value in (1, 2, 3):
        b.frame("head", clock.now_ns(), value)
        seen = observer.observe(b.tick(value))
        assert seen is not None
        assert len(made) == 1
        assert np.shares_memory(seen["head"], made[0])
        assert seen["head"].flags.c_contiguous
        assert (seen["head"][-1] == value).all()


@pytest.mark.parametrize("ticks_per_row", [1, 5])
def test_proprio_history_is_oldest_first_a_row_apart_and_within_the_episode(
    bench: Callable[..., Bench], ticks_per_row: int
) -> None:
    b = bench(proprio_history_size=4, ticks_per_row=ticks_per_row)
    observer = Observer(b.config, b.session)
    for k in range(40):
        record = b.tick(k, episode=1)
    seen = observer.observe(record)
    assert seen is not None
    assert seen["proprio"][:, 0].tolist() == [39 - i * ticks_per_row for i in (3, 2, 1, 0)]
    for k in range(40, 40 + 2 * ticks_per_row):
        record = b.tick(k, episode=2, valid_from_tick=40)
    seen = observer.observe(record)
    assert seen is not None
    newest = 40 + 2 * ticks_per_row - 1
    assert seen["proprio"][:, 0].tolist() == [40, 40, max(40, newest - ticks_per_row), newest]
    assert seen["proprio"].dtype == np.float32


def test_a_prompt_reaches_the_policy(bench: Callable[..., Bench]) -> None:
    b = bench()
    pipeline = b.pipeline()
    pipeline.step(b.tick(0))
    pipeline.step(b.tick(30, prompt="höher".encode()))
    assert "prompt" not in b.policy.inputs[0]
    assert b.policy.inputs[1]["prompt"] == "höher"


def test_a_policy_is_reset_once_for_every_episode(bench: Callable[..., Bench]) -> None:
    b = bench()
    pipeline = b.pipeline()
    for k, episode in ((0, 1), (30, 1), (60, 2)):
        assert pipeline.step(b.tick(k, episode=episode, valid_from_tick=k))
    assert b.policy.resets == 2

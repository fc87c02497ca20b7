"""A recording told in a page, and once more through a policy: its own gives what was sent."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from launched import ROOT
from making import Simulate
from recorded import RecordedSession

from rt.arrays import Chunk
from rt.cli import end_with_sentence
from rt.config import CameraConfig
from rt.config.schema import Algorithm
from rt.delays import delays
from rt.errors import ConfigError, PolicyError
from rt.infer.normalization import Normalizer
from rt.infer.observation import past_states
from rt.infer.process import TickFeed
from rt.record.reading import Recording
from rt.record.recorder import Recorder
from rt.records import Hold, Order, Phase, tick_dtype
from rt.replay.__main__ import main
from rt.replay.differences import differences, executed_in_both, seam_jumps
from rt.replay.summary import summary
from rt.replay.through import Replayed, replay, replay_config
from rt.testing import TWO_ARMS, FakeClock, FakeRobot, SimulatedRun, config

MODES: tuple[Algorithm, ...] = get_args(Algorithm)
JOINTS = 24


class Swinging:
    """From where the joints were and are it swings on; it keeps to a leftover as far as told."""

    modes = MODES
    action_context_size = 2

    def __init__(self) -> None:
        self.inputs: list[dict[str, Any]] = []
        self.resets = 0

    def predict(self, input_data: dict[str, Any], normalizer: Normalizer) -> Chunk:
        self.inputs.append(input_data)
        proprio = input_data["proprio"]
        went = proprio[-1] - proprio[0]
        rows = np.arange(8)[:, None]
        context = input_data.get("action_context", np.zeros((2, JOINTS))).mean()
        chunk = proprio[-1] + 0.05 * np.sin(rows + 7 * proprio[-1]) + 0.1 * went + 0.01 * context
        return np.asarray(normalizer.denormalize_action(chunk), np.float32)

    def guided_inference(
        self, input_data: dict[str, Any], normalizer: Normalizer, s: int, horizon: int
    ) -> Chunk:
        chunk, d = self.predict(input_data, normalizer), input_data["est_delay"]
        chunk[: d + 1] = input_data["prev_action"][: d + 1]
        return chunk + np.float32(0.001 * s)

    def reset(self) -> None:
        self.resets += 1


VALUES: dict[str, Any] = {
    "joint_groups": TWO_ARMS,
    "proprio_history_size": 3,
    "warmup_ticks": 3,
    "initial_speed_deg_s": 300.0,
    "max_following_error_deg": 20.0,
}


SAME = ("t_wake", "hold", "phase", "row", "chunk", "command", "target", "limited", "prompt")


class Standing:
    """Where the arms begin, and the hands stay; `offset` (A,) rad beside it."""

    modes = MODES

    def __init__(self, offset: Any = 0.0) -> None:
        self.inputs: list[dict[str, Any]] = []
        self.script: Callable[[int, Chunk], Any] = lambda n, chunk: chunk
        pose = [x for g in TWO_ARMS for x in g.initial_deg or (10.0,) * g.joints]
        self._pose = np.deg2rad(pose) + offset

    def predict(self, input_data: dict[str, Any], normalizer: Normalizer) -> Chunk:
        self.inputs.append(input_data)
        chunk = np.tile(self._pose, (8, 1)).astype(np.float32)
        return self.script(len(self.inputs), chunk)

    def guided_inference(
        self, input_data: dict[str, Any], normalizer: Normalizer, s: int, horizon: int
    ) -> Chunk:
        return self.predict(input_data, normalizer)


def stand(simulate: Simulate, **overrides: Any) -> SimulatedRun:
    """100 ticks of a robot that stands where `Standing` wants it."""
    run = simulate(config(**(VALUES | overrides)), policy=Standing())
    run.robot.position[:] = Standing().predict({}, Normalizer.identity())[0]
    run.tick(100)
    return run


def standing(simulate: Simulate, folder: Path) -> Recording:
    """That, recorded."""
    return record_run(stand(simulate), folder)


def sway(folder: Path, horizon: int) -> Path:
    """A policy YAML of rt.infer.policies.sway."""
    path = folder / f"sway{horizon}.yaml"
    component = folder / f"sine{horizon}.yaml"
    component.write_text(f"params: {{action_horizon: {horizon}}}")
    path.write_text(
        f"model: {{component_config_paths: {{sine: {component.name}}}}}\npolicy: {{type: sway}}\n"
    )
    return path


def brightness(images: Any) -> list[int]:
    """(n, 3, height, width) of one brightness each."""
    return [round(float(image.mean())) for image in images]


def eventful(simulate: Simulate, **overrides: Any) -> SimulatedRun:
    """Three episodes of a robot that lags, with all that may interrupt them."""
    clock = FakeClock(lateness_ns=(3_000_000 * (n % 4) for n in range(10_000)))

    def observe(record: Any) -> dict[str, Any]:
        return {"proprio": past_states(record, np.stack(run.ticks[-20:]), 3, 1)}

    run = simulate(
        config(**(VALUES | overrides)),
        observe=observe,
        policy=Swinging(),
        delay=lambda n: 1.5 + n * 7 % 5 * 0.5,
        busy=lambda k: 2.3 if k % 41 == 40 and not run.mode.planner.waits else 0.0,
        robot=FakeRobot([0.1] * JOINTS, clock=clock, share=0.6),
        clock=clock,
    )
    run.tick(100)
    with_trouble(run, 5, reading="none")
    for order in (Order.PAUSE, Order.RESUME, Order.NEXT_EPISODE):
        run.order(order)
        run.tick(30)
    run.tick(60)
    with_trouble(run, 2, raising={"publish_action"})
    with_trouble(run, 3, fault="a joint is hot")
    with_trouble(run, 30, reading="none")  # for longer than a second: it is lost, and found
    run.robot.position += 1.2  # somebody pushes it
    run.tick(40)
    with_trouble(run, 1, success=True)
    run.order(Order.PROMPT, b"other")
    run.tick(100)
    return run


def with_trouble(run: SimulatedRun, ticks: int, **trouble: Any) -> None:
    """So many ticks of it, and 20 after it."""
    before = {name: getattr(run.robot, name) for name in trouble}
    for name, value in trouble.items():
        setattr(run.robot, name, value)
    run.tick(ticks)
    for name, value in before.items():
        setattr(run.robot, name, value)
    run.tick(20)


def record_run(
    run: SimulatedRun, folder: Path, frames: dict[str, Any] | None = None, **overrides: Any
) -> Recording:
    """A recording of what happened in it. overrides: of the run's configuration."""
    with (
        RecordedSession(**(VALUES | overrides)) as session,
        Recorder(session.session, folder) as recorder,
    ):
        for name, captured in (frames or {}).items():
            for t_ns, image in captured:
                session.publish(f"frame.{name}", t_capture=t_ns, image=image)
                recorder.step()
        for chunk in run.chunks:
            session.publish("chunk", chunk)
            recorder.step()
        for tick in run.ticks:
            session.publish("tick", tick)
            if int(tick["tick"]) % 500 == 0:
                recorder.step()
    return Recording(recorder.output.path)


def replayed(
    recording: Recording,
    policy: Any,
    mode: Algorithm,
    delay_ms: float | None = None,
    normalizer: Normalizer | None = None,
) -> Replayed:
    wanted = replay_config(recording, "/policy.yaml", mode)
    return replay(recording, wanted, policy, normalizer or Normalizer.identity(), delay_ms)


# The proof.


@pytest.mark.parametrize("mode", MODES)
def test_its_own_policy_and_mode_send_what_was_sent(
    simulate: Simulate, tmp_path: Path, mode: Algorithm
) -> None:
    run = eventful(simulate, algorithm=mode)
    recording = record_run(run, tmp_path, algorithm=mode)
    policy = Swinging()
    again = replayed(recording, policy, mode)
    assert again.ticks["tick"].tolist() == recording.ticks["tick"].tolist()
    for name in SAME:
        np.testing.assert_array_equal(again.ticks[name], recording.ticks[name], err_msg=name)
    assert len(again.chunks) == len(run.chunks)
    assert {Hold.NO_STATE, Hold.PAUSED, Hold.NOT_SENT, Hold.ROBOT_FAULT, Hold.NOT_FOLLOWING} <= set(
        recording.ticks["hold"].tolist()
    )
    assert set(Phase) - {Phase.STOPPED, Phase.WAITING} == set(recording.ticks["phase"].tolist())
    assert policy.resets == 3  # episodes
    assert policy.inputs[-1]["prompt"] == "other"


def test_ticks_between_rows_are_gone_through_as_they_were(
    simulate: Simulate, tmp_path: Path
) -> None:
    several = {"ticks_per_row": 3, "proprio_history_size": 1}
    run = simulate(
        config(**(VALUES | several)),
        policy=Swinging(),
        delay=lambda n: 3.4 + n % 3,
        observe=lambda record: {"proprio": np.asarray(record["state"], np.float32)[None]},
    )
    run.tick(400)
    recording = record_run(run, tmp_path, **several)
    again = replayed(recording, Swinging(), "rtc")
    for name in SAME:
        np.testing.assert_array_equal(again.ticks[name], recording.ticks[name], err_msg=name)


WORK_NS = 200_000  # of a tick, until its record can be seen


class Fed(SimulatedRun):
    """Its inference looks through the real TickFeed, and is that one's clock."""

    t_ns = 0

    def now_ns(self) -> int:
        return self.t_ns

    def sleep_until(self, t_ns: int) -> None:
        """Control goes on meanwhile."""
        self.t_ns = max(self.t_ns, t_ns)
        while self.ticker.epoch_ns + len(self.ticks) * self.ticker.period_ns + WORK_NS <= self.t_ns:
            self.tick()

    def serve(self, ticks: int) -> None:
        """As rt.infer.process does, for so many ticks."""
        feed = TickFeed(self._tick_reader, self.ticker.period_ns)
        while len(self.ticks) < ticks:
            if feed.next():
                self._look_at = 0
                super()._infer(feed.record.copy())
            if self._under_way:
                published = self._under_way.t_publish
                self.sleep_until(published)
                self._publish_until(published)

    def _infer(self, record: Any) -> bool:
        return False  # `serve` does


@pytest.mark.parametrize("ticks_per_row", [3, 20, 50])  # of 50 ms: up to 1 kHz
def test_inference_looks_as_often_as_it_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ticks_per_row: int
) -> None:
    several = {"ticks_per_row": ticks_per_row, "proprio_history_size": 1, "warmup_ticks": 0}
    with Fed(
        config(**(VALUES | several)),
        policy=Swinging(),
        delay=lambda n: round(ticks_per_row * (1.2 + n * 7 % 5 * 0.31)) + 0.5,
        observe=lambda record: {"proprio": np.asarray(record["state"], np.float32)[None]},
    ) as run:
        monkeypatch.setattr("rt.infer.process.clock", run)
        run.serve(ticks=80 * ticks_per_row)
        recording = record_run(run, tmp_path, **several)
    again = replayed(recording, Swinging(), "rtc")
    observed, once_more = (
        [int(chunk["obs_tick"]) for chunk in chunks]
        for chunks in (recording.chunks.values(), again.chunks.values())
    )
    assert len(once_more) > 10
    assert once_more == observed[:-1], "the last came after the last tick"
    for name in SAME:
        np.testing.assert_array_equal(again.ticks[name], recording.ticks[name], err_msg=name)


def test_a_tick_that_woke_late_and_cost_others_costs_as_many(
    simulate: Simulate, tmp_path: Path
) -> None:
    clock = FakeClock(lateness_ns=repeat(30_000_000))  # of 50 ms
    run = simulate(
        config(**VALUES),
        policy=Standing(),
        busy=lambda k: 2.3 if k % 41 == 40 else 0.0,
        robot=FakeRobot([0.1] * JOINTS, clock=clock),
        clock=clock,
    )
    run.tick(150)
    assert run.ticks[-1]["overruns"] == 6
    again = replayed(record_run(run, tmp_path), Standing(), "rtc")
    assert again.ticks["tick"].tolist() == [int(tick["tick"]) for tick in run.ticks]


def test_a_robot_that_is_lost_in_the_warm_up_is_lost_again(
    simulate: Simulate, tmp_path: Path
) -> None:
    run = simulate(config(**(VALUES | {"warmup_ticks": 80})), policy=Standing())
    run.tick(50)
    with_trouble(run, 30, reading="none")
    run.tick(80)
    recording = record_run(run, tmp_path)
    again = replayed(recording, Standing(), "rtc")
    for name in (*SAME, "valid_from_tick"):
        np.testing.assert_array_equal(again.ticks[name], recording.ticks[name], err_msg=name)


@pytest.mark.parametrize("late", [True, False])
def test_a_chunk_that_was_published_while_the_loop_woke_is_seen_when_it_was(
    simulate: Simulate, tmp_path: Path, late: bool
) -> None:
    run = simulate(config(**VALUES), policy=Swinging(), delay=lambda n: 2.5)
    run.tick(150)
    ticks = {int(tick["chunk"]): tick for tick in reversed(run.ticks)}  # that used each first
    for index, chunk in enumerate(run.chunks):
        if index in ticks and not chunk["cold"]:
            woke = int(ticks[index]["t_wake"])
            before = woke - run.config.period_ns
            chunk["t_publish"] = woke + 100_000 if late else before - 100_000
    recording = record_run(run, tmp_path, proprio_history_size=1)
    again = replayed(recording, Swinging(), "rtc")
    for name in SAME:
        np.testing.assert_array_equal(again.ticks[name], recording.ticks[name], err_msg=name)


def test_another_policy_s_commands_are_told_by_joint_group(
    simulate: Simulate, tmp_path: Path
) -> None:
    recording = standing(simulate, tmp_path)
    offset = np.zeros(JOINTS)
    offset[12:18] = np.deg2rad(40)  # the left hand's, further than it may be from its command
    again = replayed(recording, Standing(offset), "naive")
    again.ticks["row"][again.ticks["limited"] > 0] = -1  # on the way there
    found = {d.name: d for d in differences(recording.config, recording.ticks, again.ticks)}
    assert not (again.ticks["hold"] == Hold.NOT_FOLLOWING).any()
    assert found["left_hand"].actions == pytest.approx((40, 40, 40), abs=1e-5)
    for name in ("left_arm", "right_arm", "right_hand"):
        assert found[name].actions == pytest.approx((0, 0, 0), abs=1e-5)


@pytest.mark.parametrize(("delay_ms", "ticks"), [(0, 1), (120, 3), (175, 4)])
def test_inference_takes_as_long_as_it_is_told(
    simulate: Simulate, tmp_path: Path, delay_ms: float, ticks: int
) -> None:
    recording = standing(simulate, tmp_path)  # at 20 Hz
    again = replayed(recording, Standing(), "naive", delay_ms)
    used = again.ticks[again.ticks["tick"] == again.ticks["chunk_first_used_tick"]]
    late = used["tick"] - used["chunk_first_tick"]
    assert set(late[1:].tolist()) == {ticks}  # the first one starts cold


def test_inference_takes_the_time_of_the_recorded_one_that_is_nearest(
    simulate: Simulate, tmp_path: Path
) -> None:
    run = simulate(config(**VALUES), policy=Standing(), delay=lambda n: 1.5 if n < 9 else 4.5)
    run.tick(200)
    recording = record_run(run, tmp_path)
    change = int(run.chunks[8]["obs_tick"])
    again = replayed(recording, Standing(), "sequential")
    planned = np.diff(again.ticks["planning"], prepend=0)
    before, after = again.ticks["tick"] < change, again.ticks["tick"] > change + 9
    assert set(planned[before].tolist()) == {0, 1}
    assert set(planned[after].tolist()) == {0, 4}


def test_a_recording_that_begins_in_the_middle_goes_on_from_its_command(
    simulate: Simulate, tmp_path: Path
) -> None:
    run = eventful(simulate)
    del run.ticks[:60]
    recording = record_run(run, tmp_path)
    again = replayed(recording, Swinging(), "rtc")
    assert again.ticks["tick"].tolist() == recording.ticks["tick"].tolist()
    assert f"overruns      {run.ticks[-1]['overruns'] - run.ticks[0]['overruns']}\n" in summary(
        recording
    )
    assert again.ticks["hold"][0] == Hold.NO_CHUNK
    np.testing.assert_array_equal(again.ticks["command"][0], recording.ticks["command"][0])
    assert (again.ticks["row"][3:30] >= 0).all()


def test_ticks_that_no_record_tells_of_are_done_with_the_state_before(
    simulate: Simulate, tmp_path: Path
) -> None:
    run = simulate(config(**VALUES), policy=Swinging())
    run.tick(100)
    del run.ticks[50:60]
    again = replayed(record_run(run, tmp_path), Swinging(), "naive")
    assert again.ticks["tick"].tolist() == list(range(100))
    assert (again.ticks["state"][50:60] == again.ticks["state"][49]).all()


# What the policy sees.


def test_the_policy_sees_the_images_of_then(simulate: Simulate, tmp_path: Path) -> None:
    cameras = {
        "camera_names": ("head", "wrist"),
        "num_img_obs": 2,
        "img_obs_every": 2,
        "proprio_history_size": 1,
    }
    run = stand(simulate, **cameras)
    period, start = run.config.period_ns, int(run.ticks[0]["t_due"])
    frames = {  # tick k's has the brightness k; the wrist's come 20 ms after
        name: [(start + k * period + late, np.full((3, 6, 8), k, np.uint8)) for k in range(100)]
        for name, late in (("head", 0), ("wrist", 20_000_000))
    }
    policy = Standing()
    again = replayed(record_run(run, tmp_path, frames, **cameras), policy, "naive")
    assert len(again.chunks) > 10
    first = int(again.ticks["tick"][again.ticks["episode"] == 1][0])
    for seen, chunk in zip(policy.inputs[1:], again.chunks.values(), strict=False):
        k = int(chunk["obs_tick"])  # the wrist's newest is of the tick before
        then = [max(k - 3, first), k - 1]  # nothing from before the episode
        assert brightness(seen["head"]) == then
        assert brightness(seen["wrist"]) == then


@pytest.mark.parametrize(("began_ms", "newest"), [(0, -2), (15, -1)])
def test_a_frame_is_seen_once_it_could_be_when_inference_began(
    simulate: Simulate, tmp_path: Path, began_ms: int, newest: int
) -> None:
    head = CameraConfig(source="/dev/video0", width=8, height=6, fps=20, latency_ms=60)
    camera = {"camera_names": ("head",), "cameras": {"head": head}, "io": "ros2", "yes": True}
    run = stand(simulate, **camera)
    for chunk in run.chunks:
        chunk["t_start"] = run.ticks[int(chunk["obs_tick"])]["t_due"] + began_ms * 1_000_000
    times = [int(tick["t_due"]) for tick in run.ticks]  # 50 ms apart
    frames = [(t, np.full((3, 6, 8), k, np.uint8)) for k, t in enumerate(times)]
    policy = Standing()
    again = replayed(record_run(run, tmp_path, {"head": frames}, **camera), policy, "naive")
    chunks = list(again.chunks.values())
    assert len(chunks) > 10
    for seen, chunk in zip(policy.inputs[1:], chunks, strict=False):
        assert brightness(seen["head"]) == [int(chunk["obs_tick"]) + newest]


def test_a_frame_that_is_missing_or_old_is_waited_for(simulate: Simulate, tmp_path: Path) -> None:
    camera = {"camera_names": ("head",), "proprio_history_size": 1}
    run = stand(simulate, **camera)
    times = [int(run.ticks[k]["t_due"]) for k in range(30, 50)]
    image = np.zeros((3, 6, 8), np.uint8)
    image[0] = 200  # red
    recording = record_run(run, tmp_path, {"head": [(t, image) for t in times]}, **camera)
    policy = Standing()
    again = replayed(recording, policy, "naive")
    observed = [int(chunk["obs_tick"]) for chunk in again.chunks.values()]
    assert observed[0] == 30
    assert 50 < observed[-1] <= 59  # max_age_ms 500 are ten ticks
    assert again.refused == 0
    red, green, blue = policy.inputs[-1]["head"][0].mean(axis=(1, 2))
    assert red > 190
    assert max(green, blue) < 20


def test_images_that_are_none_end_it_with_a_sentence(
    simulate: Simulate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera = {"camera_names": ("head",), "proprio_history_size": 1}
    run = stand(simulate, **camera)
    frames = [(int(tick["t_due"]), np.zeros((3, 6, 8), np.uint8)) for tick in run.ticks]
    monkeypatch.setattr("cv2.imencode", lambda *_: (True, np.frombuffer(b"none", np.uint8)))
    recording = record_run(run, tmp_path, {"head": frames}, **camera)
    with pytest.raises(ConfigError, match="expected JPEG images in the recording, got others"):
        replayed(recording, Standing(), "naive")


def test_a_chunk_that_is_none_costs_no_more_than_itself(simulate: Simulate, tmp_path: Path) -> None:
    recording = standing(simulate, tmp_path)
    policy = Standing()
    policy.script = lambda n, chunk: {4: chunk[:3], 6: chunk * np.nan}.get(n, chunk)
    again = replayed(recording, policy, "naive")
    assert again.refused == 2
    assert len(again.chunks) >= len(recording.chunks) - 2
    assert np.isfinite(again.ticks["command"]).all()


# The figures.


def test_a_seam_is_the_step_to_a_new_chunk_within_an_episode() -> None:
    ticks = np.zeros(9, tick_dtype(2, 2))
    ticks["tick"] = [0, 1, 2, 3, 5, 6, 9, 10, 11]
    ticks["chunk_first_used_tick"] = [-1, 1, 1, 3, 5, 6, 9, 9, 11]
    ticks["episode"] = [1, 1, 1, 1, 1, 1, 1, 1, 2]
    ticks["overruns"] = [0, 0, 0, 0, 1, 1, 1, 1, 1]  # tick 4; 7 and 8 are lost
    degrees = [0, 3, 99, 103, 108, 107, 0, 1, 70]
    ticks["command"][:, 0] = np.deg2rad(degrees) * 0.6
    ticks["command"][:, 1] = np.deg2rad(degrees) * 0.8
    assert seam_jumps(ticks, slice(0, 2)) == pytest.approx([3, 4, 5, 1])
    assert seam_jumps(ticks, slice(1, 2)) == pytest.approx(np.array([3, 4, 5, 1]) * 0.8)


def test_only_ticks_that_executed_a_row_in_both_are_compared() -> None:
    recorded, again = np.zeros(5, tick_dtype(1, 1)), np.zeros(5, tick_dtype(1, 1))
    recorded["tick"], recorded["row"] = [3, 4, 5, 6, 8], [-1, 0, 1, 2, 3]
    again["tick"], again["row"] = [3, 4, 5, 7, 8], [0, 1, -1, 0, 1]
    one, other = executed_in_both(recorded, again)
    assert one["tick"].tolist() == other["tick"].tolist() == [4, 8]


# The page.


def test_the_summary_tells_what_was_recorded(simulate: Simulate, tmp_path: Path) -> None:
    camera = {"camera_names": ("head",)}
    run = eventful(simulate)
    frames = {"head": [(k * 40_000_000, np.zeros((3, 6, 8), np.uint8)) for k in range(51)]}
    recording = record_run(run, tmp_path, frames, **camera)
    words = summary(recording)
    ticks = recording.ticks
    rows = dict(line.split(maxsplit=1) for line in words.splitlines() if "camera" not in line)
    assert rows["session"].startswith(recording.config.run.session)
    assert rows["robot"].startswith("fake, on ")
    assert rows["algorithm"] == "rtc"
    assert rows["duration"] == f"{(ticks['t_wake'][-1] - ticks['t_wake'][0]) / 1e9:.1f} s"
    executed = np.count_nonzero(ticks["row"] >= 0)
    assert rows["ticks"] == f"{len(ticks)}, of 0 to {ticks['tick'][-1]}; {executed} executed a row"
    assert int(rows["overruns"]) == ticks["overruns"][-1] > 0
    assert f"not_sent {np.count_nonzero(ticks['hold'] == Hold.NOT_SENT)}" in rows["holds"]
    assert rows["chunks"].startswith(f"{len(run.chunks)}, of them ")
    found = delays(recording.config, ticks, recording.chunks)
    late = sum(delay.late for delay in found)
    assert rows["late"] == f"{late} of {len(found)} later than planned"
    assert "camera head   51 frames, 25.0 Hz" in words
    assert "lost records  none" in words
    assert rows["ended"].startswith("in phase run: the recorder was ended")


def test_the_summary_tells_of_a_stop_and_of_what_was_lost(
    simulate: Simulate, tmp_path: Path
) -> None:
    run = simulate(config(**VALUES))
    run.tick(5)
    run.order(Order.STOP)
    run.tick()
    recording = record_run(run, tmp_path)
    recording.lost["tick"] = 7
    recording.meta["session"] = "a\nname\x1b[2J"
    words = summary(recording)
    assert "session       a?name?[2J, started " in words
    assert "ended         in order: the session was stopped" in words
    assert "lost records  tick 7" in words
    assert "chunks        0" in words


# The command line.


def test_without_its_packages_it_ends_in_a_sentence(tmp_path: Path) -> None:
    code = (
        "import runpy, sys; sys.modules.update(dict.fromkeys(['mcap', 'cv2', 'zstandard'])); "
        "runpy.run_module('rt.replay', run_name='__main__')"
    )
    asked = [sys.executable, "-c", code, str(tmp_path / "file.mcap")]
    ended = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 2
    assert "needs mcap and opencv-python-headless: " in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_file_that_is_none_and_a_wrong_flag_end_in_a_sentence(
    simulate: Simulate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.mcap"
    other.write_bytes(b"hello")
    good = str(standing(simulate, tmp_path).path)
    for arguments, expected in (
        ([str(other)], "expected a recording"),
        ([str(tmp_path / "none.mcap")], "expected a recording"),
        ([good, "--mode", "rtd"], "did you mean 'rtc'?"),
        ([good, "--delay_ms", "soon"], "expected a number from 0 to 10000, got 'soon'"),
        ([good, "--delay-ms", "nan"], "expected a number from 0 to 10000, got 'nan'"),
        ([good, "--mode", "naive"], "policies/fake/policy.yaml"),  # is not there
        ([good, "--mend", good], "expected a new file"),
        ([good, "--plot", "plot.jpg"], "that ends in .png"),
    ):
        assert end_with_sentence(lambda arguments=arguments: main(arguments)) == 2
        told = capsys.readouterr()
        assert told.out == ""
        assert told.err.count("\n") == 1
        assert expected in told.err


def test_a_policy_goes_through_it_from_the_command_line(
    simulate: Simulate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = record_run(stand(simulate), tmp_path, policy_yaml_path="its\x1b[2J")
    drawn = tmp_path / "drawn.png"
    policy = sway(tmp_path, 8)
    arguments = [str(recording.path), "--policy", str(policy), "--mode", "rtc"]
    assert main([*arguments, "--delay_ms", "100", "--plot", str(drawn)]) == 0
    told = capsys.readouterr().out
    assert "recorded with its?[2J in mode rtc\n" in told
    assert f"replayed with {policy} in mode rtc, inference delay 100 ms" in told
    assert "do not react" in told
    assert [line.split()[0] for line in told.splitlines()[6:10]] == [g.name for g in TWO_ARMS]
    assert "recorded: 100 ticks" in told
    assert drawn.read_bytes().startswith(b"\x89PNG")


def test_a_policy_that_does_not_fit_is_refused(
    simulate: Simulate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(standing(simulate, tmp_path).path)
    longer, fitting = str(sway(tmp_path, 50)), str(sway(tmp_path, 8))
    for arguments, expected in (
        (["--policy", longer], "it gave a chunk of (50, 24)"),
        (["--policy", fitting, "--mode", "sequential"], "cannot run in the mode 'sequential'"),
    ):
        assert end_with_sentence(lambda more=arguments: main([path, *more])) == 2
        told = capsys.readouterr()
        assert told.err.count("\n") == 1
        assert expected in told.err


def test_a_policy_that_raises_at_the_trial_is_refused(simulate: Simulate, tmp_path: Path) -> None:
    recording = standing(simulate, tmp_path)
    policy = Standing()
    policy.script = lambda n, chunk: chunk[9]
    with pytest.raises(PolicyError, match=r"expected a policy that fits .*IndexError"):
        replayed(recording, policy, "naive")


def test_without_ticks_or_chunks_there_is_nothing_to_go_through(
    simulate: Simulate, tmp_path: Path
) -> None:
    run = stand(simulate)
    run.chunks.clear()
    recording = record_run(run, tmp_path)
    with pytest.raises(ConfigError, match=r"expected chunks.*--delay_ms"):
        replayed(recording, Standing(), "naive")
    assert len(replayed(recording, Standing(), "naive", 100).chunks) > 0
    run.ticks.clear()
    with pytest.raises(ConfigError, match="expected ticks"):
        replayed(record_run(run, tmp_path), Standing(), "naive", 100)


def test_a_cut_file_is_told_with_a_warning_and_mended(
    simulate: Simulate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = standing(simulate, tmp_path).path
    cut, mended = tmp_path / "cut.mcap", tmp_path / "mended.mcap"
    cut.write_bytes(whole.read_bytes()[:-200])
    assert main([str(cut)]) == 0
    told = capsys.readouterr()
    assert told.err.startswith("warning: ")
    assert told.err.count("\n") == 1
    assert "ended         in phase run: the file was cut there" in told.out
    assert main([str(cut), "--mend", str(mended)]) == 0
    assert f"messages to {mended}" in capsys.readouterr().out
    assert Recording(mended).problem == ""

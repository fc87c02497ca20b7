"""DDS without ROS: two processes hear each other, and nothing that comes can upset a tick."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dds_env import fresh_domain, fresh_robot_id, peer
from launched import until

from rt import clock
from rt.errors import ConfigError, RobotError
from rt.robots.dds import DdsBus
from rt.robots.dds.senders import LEASE_NS, RESTART_NS, Senders
from rt.robots.source_clock import MAX_DRIFT, SourceClock

S = clock.NS_PER_S
MS = 1_000_000
HOUR = 3600 * S


@pytest.fixture
def domain() -> int:
    return fresh_domain()


@pytest.fixture
def bus(domain: int) -> Iterator[DdsBus]:
    opened = DdsBus(domain, loopback=True)
    yield opened
    opened.close()


@pytest.fixture
def topic() -> str:
    return f"/{fresh_robot_id()}/joint_states"


def joint_state(bus: DdsBus, value: float) -> Any:
    message = bus.message("JointState")
    message.position = [value] * 12
    return message


def test_two_processes_hear_each_other(bus: DdsBus, domain: int, topic: str) -> None:
    subscription = bus.subscribe(topic, "JointState")
    with peer(domain, "publish", topic, 100):
        first, t_first = until("a message", subscription.take)
        second, t_second = until("another", subscription.take)
    assert len(first.position) == 12
    assert first.position[0] < second.position[0]
    assert t_first < t_second <= clock.now_ns()
    assert t_second > clock.now_ns() - S


def test_a_take_gives_the_newest_and_drops_the_others(bus: DdsBus, topic: str) -> None:
    subscription, publisher = bus.subscribe(topic, "JointState"), bus.advertise(topic, "JointState")
    assert subscription.take() is None
    for value in (1.0, 2.0, 3.0):
        publisher.publish(joint_state(bus, value))
    taken = subscription.take()
    assert taken is not None
    assert taken[0].position == [3.0] * 12
    assert subscription.take() is None


def test_that_a_publisher_left_is_no_message(bus: DdsBus, topic: str) -> None:
    subscription, publisher = bus.subscribe(topic, "JointState"), bus.advertise(topic, "JointState")
    publisher.publish(joint_state(bus, 1.0))
    assert subscription.take() is not None
    del publisher
    assert subscription.take() is None


def test_floats_cross_too(bus: DdsBus, topic: str) -> None:
    subscription = bus.subscribe(topic, "Float32MultiArray")
    message = bus.message("Float32MultiArray")
    message.data = [0.5, -0.25]
    bus.advertise(topic, "Float32MultiArray").publish(message)
    taken = subscription.take()
    assert taken is not None
    assert taken[0].data == [0.5, -0.25]


def test_bytes_that_are_no_message_are_refused_and_then_it_goes_on(bus: DdsBus, topic: str) -> None:
    subscription, publisher = bus.subscribe(topic, "JointState"), bus.advertise(topic, "JointState")
    broken = bus.message("JointState")
    not_utf8 = b"\4\0\0\0\xff\xfe\xfd\0"  # cyclonedds itself lets none through that is cut short
    broken.serialize = lambda **_: b"\0\1\0\0" + b"\0" * 8 + not_utf8 + b"\0" * 16
    publisher.publish(broken)
    with pytest.raises(RobotError, match="bytes that are no sensor_msgs"):
        subscription.take()
    assert subscription.take() is None
    publisher.publish(joint_state(bus, 1.0))
    assert subscription.take() is not None


def test_a_topic_is_told_by_its_ros_names_and_ours_is_not(
    bus: DdsBus, domain: int, topic: str
) -> None:
    ours = bus.advertise("/ours", "JointState")
    assert bus.topics() == {}
    with peer(domain, "publish", topic, 10) as other:
        until("the other's topic", bus.topics)
        assert bus.topics() == {topic: "sensor_msgs/msg/JointState"}
        other.terminate()
        until("its end", lambda: bus.topics() == {})
    del ours  # kept till here, or it would not be there to be left out


def test_publishers_are_counted_and_a_killed_one_is_replaced(
    bus: DdsBus, domain: int, topic: str
) -> None:
    subscription = bus.subscribe(topic, "JointState")

    def count() -> int:
        subscription.take()
        return subscription.publishers

    assert count() == 0
    with peer(domain, "publish", topic, 200) as first:
        until("one", lambda: count() == 1 and subscription._senders._heard)
        first.kill()  # it stays matched for ten seconds
        first.wait()
    with peer(domain, "publish", topic, 200):
        until("its successor", lambda: count() and len(subscription._senders._heard) == 2)
        assert len(subscription._reader.get_matched_publications()) == 2
        assert count() == 1
        with peer(domain, "publish", topic, 200):
            until("a twin of it", lambda: count() == 2)


def test_no_thread_of_pythons_is_started(bus: DdsBus, topic: str) -> None:
    subscription, publisher = bus.subscribe(topic, "JointState"), bus.advertise(topic, "JointState")
    publisher.publish(joint_state(bus, 0.0))
    assert subscription.take() is not None
    assert threading.enumerate() == [threading.main_thread()]
    assert len(list(Path("/proc/self/task").iterdir())) > 1  # cyclonedds has its own


def test_a_domain_is_open_once_and_free_after_close(domain: int, topic: str) -> None:
    first = DdsBus(domain, loopback=True)
    publisher = first.advertise(topic, "JointState")
    assert publisher.others == 0
    with pytest.raises(RobotError, match=f"cannot join DDS domain {domain}"):
        DdsBus(domain, loopback=True)
    first.close()
    second = DdsBus(domain, loopback=True)
    assert second.subscribe(topic, "JointState").publishers == 0
    second.close()
    del publisher


@pytest.mark.skipif(len(list(Path("/sys/class/net").iterdir())) < 2, reason="no network but lo")
def test_on_loopback_nobody_on_the_network_is_seen(domain: int) -> None:
    with peer(domain, "network", "/far", 10), peer(domain, "publish", "/near", 10):
        network = DdsBus(domain, loopback=False)
        until("the far one, from the network", lambda: "/far" in network.topics())
        network.close()
        confined = DdsBus(domain, loopback=True)
        until("the near one", lambda: "/near" in confined.topics())
        assert "/far" not in confined.topics()
        confined.close()


def test_cyclonedds_uri_is_the_users_own_but_on_loopback(
    domain: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = (
        "<CycloneDDS><Domain><General><Interfaces><NetworkInterface name='nowhere'/>"
        "</Interfaces></General></Domain></CycloneDDS>"
    )
    monkeypatch.setenv("CYCLONEDDS_URI", nowhere)
    with pytest.raises(RobotError, match="a CYCLONEDDS_URI that is right"):
        DdsBus(domain, loopback=False)
    DdsBus(domain, loopback=True).close()


def test_a_cyclonedds_uri_that_cyclonedds_cannot_take_is_a_sentence(
    domain: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CYCLONEDDS_URI", "file:///home/zoë/dds.xml")
    with pytest.raises(RobotError, match="a CYCLONEDDS_URI that is right"):
        DdsBus(domain, loopback=False)


def test_a_robot_that_hangs_does_not_hold_up_who_commands_it(bus: DdsBus, domain: int) -> None:
    robot_id = fresh_robot_id()
    publisher = bus.advertise(f"/igris_b/{robot_id}/target_joints", "JointState")
    with peer(domain, "echo", robot_id) as robot:
        until("the robot listens", publisher._writer.get_matched_subscriptions)
        os.kill(robot.pid, signal.SIGSTOP)
        for _ in range(1000):  # never blocks, though nobody confirms
            publisher.publish(joint_state(bus, 0.0))


def test_an_unknown_message_type_is_refused(bus: DdsBus) -> None:
    with pytest.raises(ConfigError, match="unknown msg_type 'JointStates'"):
        bus.subscribe("/a", "JointStates")


def test_a_first_message_is_now() -> None:
    assert SourceClock().to_monotonic(HOUR, 5 * S) == 5 * S


@pytest.mark.parametrize("skew", [-HOUR, 0, HOUR])
def test_a_delay_shows_whatever_the_senders_clock_says(skew: int) -> None:
    sender = SourceClock()
    ages = []
    for k, delay in enumerate([2 * MS, 1 * MS, 9 * MS, 60 * MS, 1 * MS]):
        published = k * 10 * MS
        ages.append(published + delay - sender.to_monotonic(published + skew, published + delay))
    # Less what the fastest so far took; the drift allowed for is some microseconds.
    assert ages == pytest.approx([0, 0, 8 * MS, 59 * MS, 0], abs=0.02 * MS)


@pytest.mark.parametrize("step", [-HOUR, -2 * S, -95 * MS, HOUR])
def test_a_clock_that_is_set_is_followed_at_once(step: int) -> None:
    sender = SourceClock()
    sender.to_monotonic(10 * HOUR, 10 * S)
    assert sender.to_monotonic(10 * HOUR + 10 * MS, 10 * S + 10 * MS) == 10 * S + 10 * MS
    assert sender.to_monotonic(10 * HOUR + 20 * MS + step, 11 * S) == 11 * S


@pytest.mark.parametrize("delay", [90 * MS, 300 * MS, 5 * S])
def test_a_delay_that_lasts_shows_for_as_long_as_it_lasts(delay: int) -> None:
    sender = SourceClock()
    sender.to_monotonic(HOUR, 0)
    ages = [
        now + delay - sender.to_monotonic(HOUR + now, now + delay)
        for now in range(10 * MS, 60 * S, 10 * MS)
    ]
    drifted = 2 * MAX_DRIFT * 60 * S
    assert delay - drifted <= min(ages) <= max(ages) <= delay


def test_a_clock_set_back_during_a_silence_looks_late_and_never_fresh() -> None:
    sender = SourceClock()
    sender.to_monotonic(HOUR, 0)
    for now in range(10 * S, 20 * S, 100 * MS):
        age = now - sender.to_monotonic(HOUR + now - 500 * MS, now)
        assert age == pytest.approx(500 * MS, abs=MAX_DRIFT * 20 * S)


def test_one_late_message_does_not_move_the_clock() -> None:
    sender = SourceClock()
    sender.to_monotonic(0, 0)
    assert sender.to_monotonic(10 * MS, 3 * S) < 12 * MS  # it was under way for three seconds
    assert 3 * S + 20 * MS - sender.to_monotonic(3 * S + 20 * MS, 3 * S + 20 * MS) < MS
    assert sender.to_monotonic(4 * S, 6 * S) < 4 * S + 2 * MS  # nor does another later


@pytest.mark.parametrize("drift", [-100e-6, 100e-6])
def test_a_drifting_clock_is_followed_for_hours(drift: float) -> None:
    sender = SourceClock()
    for k in range(3 * 3600):
        now = k * S
        age = now - sender.to_monotonic(int(now * (1 + drift)) + HOUR, now)
        assert 0 <= age <= MAX_DRIFT * S


def test_times_are_never_later_than_now_and_keep_their_order() -> None:
    sender, before = SourceClock(), 0
    for k, delay in enumerate([5, 0, 7, 300, 299, 200, 3]):
        source = k * 20 * MS
        now = source + delay * MS if k != 4 else source + 320 * MS
        t = sender.to_monotonic(source, now)
        assert before <= t <= now
        before = t


OLD, NEW = 2**64 - 5, 7
BOTH = [-5, NEW]  # as cyclonedds tells them here, and unsigned there


def test_a_writer_that_fell_silent_before_another_spoke_is_a_ghost_for_its_lease() -> None:
    senders = Senders()
    senders.heard(OLD, 0, 0)
    assert senders.count(BOTH, RESTART_NS) == 2  # it may only be slow
    senders.heard(NEW, 0, RESTART_NS)
    assert senders.count(BOTH, RESTART_NS) == 1
    assert senders.count(BOTH, LEASE_NS - 1) == 1
    assert senders.count(BOTH, LEASE_NS) == 2
    assert senders.count([NEW], LEASE_NS) == 1


def test_a_writer_that_another_hides_is_a_second_robot_for_good() -> None:
    senders = Senders()
    senders.heard(OLD, 0, 0)
    for now in range(100 * MS, 15 * S, 100 * MS):  # each message of the old one is overwritten
        senders.heard(NEW, now, now)
        assert senders.count(BOTH, now) == 2


def test_two_writers_that_are_slow_are_two_robots() -> None:
    senders = Senders()
    for second in range(5):
        senders.heard(OLD, 0, second * S)
        senders.heard(NEW, 0, second * S + RESTART_NS)
        assert senders.count(BOTH, second * S + RESTART_NS) == (2 if second else 1)


def test_a_writer_that_was_never_heard_counts() -> None:
    senders = Senders()
    senders.heard(7, 0, 0)
    assert senders.count([7, 8], 5 * S) == 2
    assert senders.count([], 5 * S) == 0
    assert senders._heard == {}  # who left is forgotten, however often one restarts


def test_another_writer_has_another_clock() -> None:
    senders = Senders()
    senders.heard(7, 10 * HOUR, S)
    assert senders.heard(8, 10 * HOUR - 50 * MS, 2 * S) == 2 * S

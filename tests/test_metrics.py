"""The figures for Prometheus: each equals what was recorded, and nobody is harmed by a scrape."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from bare_session import BareSession
from launched import segments, unique_session, until

from rt import clock, extras
from rt.config import Config, ImageSize
from rt.errors import ConfigError, MissingPackageError
from rt.launcher import run
from rt.launcher.log import HumanLog
from rt.launcher.options import parse
from rt.metrics import serve
from rt.metrics.serve import Address, serving
from rt.records import PARTS, Hold
from rt.shm import Ring
from rt.testing import config

pytest.importorskip("prometheus_client", reason="without the extra [metrics]")
from prometheus_client.parser import text_string_to_metric_families

LOOPBACK = "127.0.0.1"


class Supervised(BareSession):
    """A session of which the test is the supervisor."""

    def __init__(self) -> None:
        made = config(
            session=unique_session("metrics"),
            camera_names=("head",),
            mono_image_resize=ImageSize(width=8, height=6),
        )
        super().__init__(made, ("inference", "control", "sim"))

    def serving(self, host: str, port: int) -> AbstractContextManager[str]:
        restarts = {"inference": 2, "control": 0}
        return serving(Address(host, port), self.session, self.config, lambda: restarts)

    def tick(self, k: int, **fields: Any) -> None:
        due = 1_000_000 * k
        times = {"t_due": due, "t_wake": due + 30_000, "t_done": due + 430_000}
        self.publish("tick", tick=k, **(times | fields))


@pytest.fixture
def supervised() -> Iterator[Supervised]:
    with Supervised() as supervised:
        yield supervised


def free_port(host: str = LOOPBACK) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def served(supervised: Supervised) -> Iterator[str]:
    """The URL; another port is taken when somebody was quicker."""
    for attempt in range(5):
        try:
            with supervised.serving(LOOPBACK, free_port()) as url:
                yield url
                return
        except ConfigError:
            if attempt == 4:
                raise


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as response:
        assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        return str(response.read().decode())


Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scrape(url: str) -> Samples:
    """Every sample, by its name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(fetch(url))
        for sample in family.samples
    }


class Scraped:
    """Samples by name and labels, of the one session."""

    def __init__(self, url: str, supervised: Supervised) -> None:
        self._samples, self._session = scrape(url), supervised.session.name

    def __call__(self, name: str, **labels: str) -> float | None:
        labels["session"] = self._session
        return self._samples.get((name, tuple(sorted(labels.items()))))


def test_every_figure_is_what_was_recorded(supervised: Supervised) -> None:
    held = {3: Hold.EXPIRED, 4: Hold.EXPIRED, 5: Hold.PAUSED}
    fields = ("overruns", "planning", "holds", "moves", "not_finite", "expired_chunks")
    for k in range(9):
        counters = {name: k * n for n, name in enumerate((*fields, "robot_faults"), start=1)}
        supervised.tick(k, hold=held.get(k, Hold.NONE), episodes=4, successes=3, **counters)
    took = (2e6, 70e6, 4e6, 30e6, 150e6, 1e5)
    parts = {f"{part}_ns": ns for part, ns in zip(PARTS, took, strict=True)}
    chunk = {"t_start": 1_000, "t_publish": 190_001_000, **parts}
    supervised.publish("chunk", cold=1, d_planned=0, previous_d_counted=-1, **chunk)
    supervised.publish("chunk", d_planned=3, previous_d_counted=-1, **chunk)
    for _ in range(2):
        supervised.publish("chunk", d_planned=4, previous_d_counted=7, **chunk)
    counts = {"late": 5, "dropped": 6, "outcomes": [9, 8, 7, 6, 5]}
    supervised.publish("status.inference", pid=os.getpid(), state=b"ready", **counts)
    with served(supervised) as url:
        seen = Scraped(url, supervised)
    assert seen("rt_session_info", robot="fake", algorithm="rtc", io="sim") == 1
    assert seen("rt_wake_error_seconds_count") == seen("rt_tick_work_seconds_count") == 9
    assert seen("rt_wake_error_seconds_sum") == pytest.approx(9 * 30e-6)
    assert seen("rt_tick_work_seconds_sum") == pytest.approx(9 * 400e-6)
    assert [seen("rt_wake_error_seconds_bucket", le=le) for le in ("2e-05", "5e-05")] == [0, 9]
    assert [seen("rt_tick_work_seconds_bucket", le=le) for le in ("0.0002", "0.0005")] == [0, 9]
    reasons = ("expired", "paused", "no_state")
    assert [seen("rt_held_ticks_total", reason=r) for r in reasons] == [2, 1, 0]
    names = (
        *("rt_overruns", "rt_planning_skips", "rt_holds", "rt_moves", "rt_not_finite"),
        *("rt_chunks_expired", "rt_robot_faults"),
    )
    assert [seen(f"{name}_total") for name in names] == [8 * n for n in range(1, 8)]
    assert (seen("rt_episodes_total"), seen("rt_episodes_successful_total")) == (4, 3)
    assert [seen(f"rt_chunks{what}_total") for what in ("", "_late", "_dropped")] == [4, 5, 6]
    outcomes = ("ok", "too_late", "lost", "unreachable", "wrong")
    assert [seen("rt_requests_total", outcome=o) for o in outcomes] == [9, 8, 7, 6, 5]
    planned = [seen("rt_delay_planned_rows_bucket", le=le) for le in ("2", "3", "4", "+Inf")]
    counted = [seen("rt_delay_counted_rows_bucket", le=le) for le in ("6", "8", "+Inf")]
    assert (planned, seen("rt_delay_planned_rows_sum")) == ([0, 1, 3, 3], 11)
    assert (counted, seen("rt_delay_counted_rows_sum")) == ([0, 2, 2], 14)
    assert seen("rt_inference_seconds_count") == 4
    assert seen("rt_inference_seconds_sum") == pytest.approx(4 * 0.19)
    for part in PARTS:
        took = seen("rt_inference_part_seconds_sum", part=part)
        assert took == pytest.approx(4 * parts[f"{part}_ns"] / 1e9)
    assert seen("rt_process_restarts_total", process="inference") == 2
    assert seen("rt_process_restarts_total", process="control") == 0
    assert [seen("rt_records_missed_total", ring=ring) for ring in ("tick", "chunk")] == [0, 0]


def test_ages_grow_and_what_never_measured_has_none(supervised: Supervised) -> None:
    with served(supervised) as url:
        before = Scraped(url, supervised)
        assert before("rt_sensor_age_seconds", sensor="state") is None
        assert before("rt_sensor_age_seconds", sensor="camera.head") is None
        assert before("rt_wake_error_seconds_count") == 0
        now = clock.now_ns()
        supervised.tick(0, t_state=now - 10**9, t_done=now - 3 * 10**9)
        supervised.publish("frame.head", t_capture=now - 2 * 10**9)
        supervised.publish("status.control", pid=os.getpid(), state=b"running")
        supervised.publish("status.inference", pid=os.getpid(), state=b"ready", heartbeat=now)
        seen = Scraped(url, supervised)
        ages = {
            "state": seen("rt_sensor_age_seconds", sensor="state"),
            "head": seen("rt_sensor_age_seconds", sensor="camera.head"),
            "control": seen("rt_process_heartbeat_age_seconds", process="control"),
            "inference": seen("rt_process_heartbeat_age_seconds", process="inference"),
        }
        at_most = (clock.now_ns() - now) / 1e9
    for (name, age), least in zip(ages.items(), (1, 2, 3, 0), strict=True):
        assert age is not None, name
        assert least <= age <= least + at_most, name


def test_a_read_that_gives_up_leaves_the_figure_as_it_was(
    supervised: Supervised, monkeypatch: pytest.MonkeyPatch
) -> None:
    def give_up(ring: Ring, out: np.ndarray[Any, Any]) -> None:
        out[...] = np.zeros((), out.dtype)  # `out` is undefined then

    supervised.publish("status.inference", pid=os.getpid(), dropped=5)
    with served(supervised) as url:
        fetch(url)
        monkeypatch.setattr(Ring, "read_latest", give_up)
        assert Scraped(url, supervised)("rt_chunks_dropped_total") == 5
        assert Scraped(url, supervised)("rt_chunks_dropped_total") == 5


def test_a_process_is_in_the_state_that_it_told_or_gone(supervised: Supervised) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    supervised.publish("status.inference", pid=ended.pid, state=b"ready")
    supervised.publish("status.control", pid=os.getpid(), state=b"warming up")
    with served(supervised) as url:
        seen = Scraped(url, supervised)
        assert seen("rt_process_state", process="inference", state="gone") == 1
        assert seen("rt_process_state", process="inference", state="ready") is None
        assert seen("rt_process_state", process="control", state="warming up") == 1
        assert f'process="sim",session="{supervised.session.name}",state' not in fetch(url)
        supervised.publish("status.inference", pid=ended.pid, state=b"failed")
        seen = Scraped(url, supervised)
        assert seen("rt_process_state", process="inference", state="failed") == 1


def test_buckets_only_grow_and_end_at_the_count(supervised: Supervised) -> None:
    late_ns = np.random.default_rng(2).lognormal(11, 3, 500).astype(int)
    for k, late in enumerate(late_ns):
        supervised.publish("tick", tick=k, t_wake=late, t_done=2 * late)
    with served(supervised) as url:
        samples = scrape(url)
    of = [
        (dict(key[1])["le"], n)
        for key, n in samples.items()
        if "rt_wake_error_s" in key[0] and "le" in dict(key[1])
    ]
    counts = [n for _, n in sorted(of, key=lambda one: float(one[0]))]
    assert counts == sorted(counts)
    assert counts[-1] == 500
    for limit, count in of:
        low, high = (late_ns <= 1e9 * float(limit)).sum(), (late_ns <= 1.021e9 * float(limit)).sum()
        assert low <= count <= high


def test_no_tick_is_lost_between_two_scrapes(
    supervised: Supervised, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rt.metrics.figures import Figures

    updates, update = threading.Semaphore(0), Figures.update

    def counted(figures: Figures) -> None:
        update(figures)
        updates.release()

    monkeypatch.setattr(Figures, "update", counted)
    with served(supervised) as url:
        for burst in range(4):
            for k in range(1500):  # the ring holds 2112
                supervised.tick(1500 * burst + k)
            while updates.acquire(blocking=False):
                pass
            assert updates.acquire(timeout=60)
            assert updates.acquire(timeout=60), "one that began after the burst"
        seen = Scraped(url, supervised)
    assert seen("rt_wake_error_seconds_count") == 6000
    assert seen("rt_records_missed_total", ring="tick") == 0


def test_what_was_overwritten_unread_is_a_figure(supervised: Supervised) -> None:
    for k in range(3000):
        supervised.tick(k)
    for _ in range(200):
        supervised.publish("chunk", previous_d_counted=-1)
    with served(supervised) as url:
        seen = Scraped(url, supervised)
    assert seen("rt_records_missed_total", ring="tick") == 3000 - 2048
    assert seen("rt_records_missed_total", ring="chunk") == 200 - 96
    assert seen("rt_chunks_total") == 200


def test_a_session_whose_names_vanish_is_still_told(
    supervised: Supervised, capfd: pytest.CaptureFixture[str]
) -> None:
    supervised.tick(0)
    with served(supervised) as url:
        supervised.session.clean()
        assert supervised.session.rings() == []
        supervised.tick(1)
        assert Scraped(url, supervised)("rt_wake_error_seconds_count") == 2
    assert capfd.readouterr().err == ""


def refused(supervised: Supervised, host: str, port: int) -> str:
    """The sentence."""
    with pytest.raises(ConfigError) as refusal, supervised.serving(host, port):
        pass
    assert refusal.value.exit_code == 2
    return str(refusal.value)


def test_a_port_in_use_is_refused_in_a_sentence(supervised: Supervised) -> None:
    with socket.create_server((LOOPBACK, 0)) as other:
        port = other.getsockname()[1]
        assert refused(supervised, LOOPBACK, port) == (
            f"--metrics_port: expected a free port of 127.0.0.1, got {port} (Address already in "
            "use): choose another"
        )


@pytest.mark.parametrize("port", [-1, 65536, 10**9])
def test_no_port_is_refused_in_a_sentence(supervised: Supervised, port: int) -> None:
    words = f"--metrics_port: expected 1 to 65535, or 0 for none, got {port}"
    assert refused(supervised, LOOPBACK, port) == words


@pytest.mark.parametrize("host", ["", "no such", "256.1.1.1", "192.0.2.1", "a" * 70, "x\0y"])
def test_no_host_of_ours_is_refused_in_a_sentence(supervised: Supervised, host: str) -> None:
    words = refused(supervised, host, free_port())
    assert words.startswith("--metrics_host: expected an address of this machine, e.g. 127.0.0.1")


def test_a_missing_package_is_its_pip_command(
    supervised: Supervised, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with (
        pytest.raises(MissingPackageError, match=r"pip install -e '.\[metrics\]'"),
        served(supervised),
    ):
        pass


def test_port_0_serves_nothing(supervised: Supervised) -> None:
    before = threading.active_count()
    with supervised.serving("no such", 0) as url:
        assert url == ""
        assert threading.active_count() == before


def test_ipv6_is_served_as_well(supervised: Supervised) -> None:
    try:
        port = free_port("::1")
    except OSError as error:
        pytest.skip(f"no IPv6 on this machine: {error}")
    with supervised.serving("::1", port) as url:
        assert url == f"http://[::1]:{port}/metrics"
        assert Scraped(url, supervised)("rt_chunks_total") == 0


def test_once_closed_nothing_is_told(supervised: Supervised) -> None:
    from rt.metrics.figures import Figures

    figures = Figures(supervised.session, supervised.config, dict)
    assert figures.collect()
    figures.close()
    figures.update()
    assert figures.collect() == []


def test_when_it_has_ended_nobody_answers(supervised: Supervised) -> None:
    before = threading.active_count()
    with served(supervised) as url:
        fetch(url)
    with pytest.raises(urllib.error.URLError, match="refused"):
        fetch(url)
    until("its threads to end", lambda: threading.active_count() == before)


def test_scrapes_at_once_and_through_the_end_are_whole_or_refused(
    supervised: Supervised, capfd: pytest.CaptureFixture[str]
) -> None:
    whole, faults = [], []

    def keep_scraping(url: str) -> None:
        while True:
            try:
                whole.append(Scraped(url, supervised)("rt_wake_error_seconds_count"))
            except OSError:
                return  # the server is gone
            except BaseException as fault:
                faults.append(fault)
                raise

    with served(supervised) as url:
        threads = [threading.Thread(target=keep_scraping, args=(url,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        k = 0
        while len(whole) < 40:
            assert not faults
            supervised.tick(k)
            k += 1
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert not faults
    assert set(whole) <= {None, *range(k + 1)}
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /metrics HTTP/1.1\r\n",
        b"\x16\x03\x01\x02\x00",
        b"GET //[ HTTP/1.1\r\n\r\n",
        b"GET /" + b"x" * 70_000,
        b"POST /metrics HTTP/1.1\r\nContent-Length: 9\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\n\r\n" * 3,
    ],
)
def test_a_client_that_hangs_up_or_talks_nonsense_is_no_event(
    supervised: Supervised, capfd: pytest.CaptureFixture[str], sent: bytes
) -> None:
    with served(supervised) as url:
        port = int(url.split(":")[2].partition("/")[0])
        for _ in range(5):
            with socket.create_connection((LOOPBACK, port), timeout=20) as client:
                # Closed at once, with what is still unread: the server's next write is refused.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.sendall(sent)
        until("an answer", lambda: "rt_wake_error_seconds_count" in fetch(url))
    assert capfd.readouterr() == ("", "")


def test_only_the_figures_are_served(supervised: Supervised) -> None:
    with served(supervised) as url:
        assert fetch(f"{url}?name[]=x") == fetch(url)
        for path in ("/etc/passwd", "/metrics/x", "/favicon.ico"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                fetch(url.removesuffix("/metrics") + path)


def test_a_silent_client_is_hung_up_on(
    supervised: Supervised, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert serve._Handler.timeout == serve.CLIENT_S < 10
    monkeypatch.setattr(serve._Handler, "timeout", 0.01)
    with served(supervised) as url:
        port = int(url.split(":")[2].partition("/")[0])
        with socket.create_connection((LOOPBACK, port), timeout=60) as client:
            assert client.recv(1) == b""
    assert capfd.readouterr().err == ""


def test_a_crowd_of_clients_does_not_take_every_thread(
    supervised: Supervised, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve._Handler, "timeout", None)
    with served(supervised) as url:
        most = threading.active_count() + 1
        monkeypatch.setattr(serve, "MOST_THREADS", most)
        port = int(url.split(":")[2].partition("/")[0])
        with socket.create_connection((LOOPBACK, port)):
            until("its thread", lambda: threading.active_count() == most)
            with socket.create_connection((LOOPBACK, port), timeout=20) as another:
                assert another.recv(1) == b""
        until("its end", lambda: threading.active_count() < most)
        fetch(url)


def test_the_flags_mean_no_port_and_loopback_unless_they_say_so() -> None:
    plain = parse(["--robot", "x"])
    assert (plain.metrics_host, plain.metrics_port) == (LOOPBACK, 0)
    asked = parse(["--robot", "x", "--metrics-port", "9100", "--metrics-host=0.0.0.0"])
    assert (asked.metrics_host, asked.metrics_port) == ("0.0.0.0", 9100)


@pytest.fixture
def driven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Of a launch that is stopped while its first process loads."""
    driver = tmp_path / "nobody.py"
    driver.write_text(
        "from rt.robots.robot import Backend\nBACKENDS = {'sim': Backend(robot='nobody:Robot')}\n"
    )
    monkeypatch.setattr(run, "wait_until", lambda *_: False)
    return config(driver=str(driver), session=unique_session("metrics"))


def test_a_launch_that_cannot_serve_ends_before_any_process_is_started(
    driven: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run.Child, "spawn", lambda child: pytest.fail(f"{child.name} started"))
    interrupt: Any = SimpleNamespace()
    with socket.create_server((LOOPBACK, 0)) as other:
        where = Address(*other.getsockname())
        with pytest.raises(ConfigError, match="--metrics_port: expected a free port"):
            run.run_session(driven, HumanLog(), interrupt, where)
    assert segments(driven.run.session) == []


def test_a_launch_serves_while_its_processes_load_and_says_where(
    driven: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bodies: list[str] = []
    where = Address(LOOPBACK, free_port())
    url = f"http://{LOOPBACK}:{where.port}/metrics"
    monkeypatch.setattr(run.Child, "spawn", lambda child: bodies.append(fetch(url)))
    interrupt: Any = SimpleNamespace()
    run.run_session(driven, HumanLog(), interrupt, where)
    assert f"metrics: {url}" in capsys.readouterr().out
    restarts = (
        f'rt_process_restarts_total{{process="inference",session="{driven.run.session}"}} 0.0'
    )
    assert [restarts in body for body in bodies] == [True]
    assert segments(driven.run.session) == []

"""The live state of a session as plain values: what `rt.inspect` prints.

Guarantees:
  - Attaches read-only and registers nothing: a writer cannot notice it, nor be held up by it.
"""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

import msgspec
import numpy as np

from rt import clock, cores
from rt.cameras.figures import camera_figures
from rt.config import Config
from rt.control.realtime import Grant
from rt.errors import NoSessionError, SegmentMissingError
from rt.records import PARTS, STATUS, Hold, Outcome, Phase, counted_delay, named, text
from rt.session import Session, holder, ring_table
from rt.shm import Ring
from rt.statistics import TickStatistics

LAST_INFERENCES = 8
TIME_FIELDS = ("t_done", "t_publish", "t_capture", "t_sent", "heartbeat")


def scheduled(pid: int) -> dict[str, Any]:
    """Scheduler, priority and cpus of a process, and the share of a core that it has used since it
    started, asked of the kernel now."""
    try:
        share = round(100 * cores.cpu_share(pid), 1)
        return cores.scheduling(pid)._asdict() | {"cpu_percent": share}
    except (ProcessLookupError, PermissionError, OverflowError):
        return {"scheduler": "gone", "priority": 0, "cpus": [], "cpu_percent": None}


class Snapshots:
    """Takes snapshots of one session, over and over."""

    def __init__(self, session: Session) -> None:
        """Raises NoSessionError when the session has no record."""
        self.session = session
        self.config: Config = session.config()
        self.rings: dict[str, Ring] = {}
        dtypes = {name: dtype for name, (dtype, _) in ring_table(self.config).items()}
        for name in session.rings():
            expected = STATUS if name.startswith("status.") else dtypes.get(name)
            try:
                self.rings[name] = session.reader(name, expected)
            except SegmentMissingError:
                continue  # the session is ending while we look
        if not {"tick", "chunk", "status.inference"} <= self.rings.keys():
            self.close()
            raise NoSessionError(f"session {session.name!r} is just starting or ending: try again")
        self._statistics = TickStatistics(self.rings["tick"])

    def close(self) -> None:
        for ring in self.rings.values():
            ring.close()

    def take(self) -> dict[str, Any]:
        """One snapshot, JSON-able. Times in ms or us as named; angles in rad."""
        self._statistics.update()
        record = self._statistics.last
        chunks = self._chunks()
        cameras = self.config.params.camera_names
        frames = {c: self.rings[ring] for c in cameras if (ring := f"frame.{c}") in self.rings}
        return {
            "session": self.session.name,
            "robot": self.config.robot.name,
            "algorithm": self.config.run.algorithm,
            "algorithm_params": self.config.algorithm_params,
            "io": self.config.run.io,
            "dry_run": self.config.run.dry_run,
            "tick": int(record["tick"]) if record is not None else -1,
            "rate_hz": round(self._statistics.rate_hz, 2),
            "processes": self._processes(record),
            "joints": self._joints(record),
            "tick_stats": self._tick_stats(record),
            "chunk": self._chunk(record, chunks),
            "inference": self._inference(record, chunks),
            **camera_figures(frames, int(record["t_state"]) if record is not None else 0),
            "rings": [self._ring(name, ring) for name, ring in sorted(self.rings.items())],
        }

    def _processes(self, record: Any) -> list[dict[str, Any]]:
        now = clock.now_ns()
        supervisor = holder(self.session.name, "supervisor")
        found: list[dict[str, Any]] = []
        if supervisor:
            found.append({"name": "supervisor", "pid": supervisor, "state": "running"})
        for name, ring in sorted(self.rings.items()):
            status = ring.buffer()
            if not name.startswith("status.") or ring.read_latest(status) is None:
                continue
            beat = int(status["heartbeat"])
            if not beat and record is not None:
                beat = int(record["t_done"])  # control beats by its ticks
            found.append(
                {
                    "name": name.removeprefix("status."),
                    "pid": int(status["pid"]),
                    "state": text(status["state"]),
                    "heartbeat_age_ms": round((now - beat) / 1e6, 1) if beat else None,
                    **_detail(name, text(status["state"]), text(status["detail"])),
                }
            )
        return [{"heartbeat_age_ms": None, **p, **scheduled(int(p["pid"]))} for p in found]

    def _joints(self, record: Any) -> list[dict[str, Any]]:
        """By joint group what was measured and commanded last, degrees; None: not yet."""
        return [
            {
                "group": group.name,
                "measured_deg": _degrees(record, "state", joints),
                "commanded_deg": _degrees(record, "command", joints),
            }
            for group, joints in zip(
                self.config.robot.joint_groups, self.config.joint_slices.values(), strict=True
            )
        ]

    def _tick_stats(self, record: Any) -> dict[str, Any]:
        stats: dict[str, Any] = {
            "count": self.rings["tick"].head,
            "wake_error_us": self._statistics.wake_error.summary(),
            "work_us": self._statistics.work.summary(),
            "window": self._statistics.work.count,
        }
        if record is None:
            return stats | {"phase": "NOT_STARTED", "hold": "NONE", "overruns": 0, "holds": 0}
        counters = (
            "overruns planning holds moves not_finite expired_chunks robot_faults "
            "episode episodes successes"
        )
        return (
            stats
            | {"phase": named(Phase, record["phase"]), "hold": named(Hold, record["hold"])}
            | {"why": text(record["why"])}
            | {name: int(record[name]) for name in counters.split()}
        )

    def _chunks(self) -> dict[int, Any]:
        """The newest chunks by ring index."""
        ring = self.rings["chunk"]
        count = min(ring.head, LAST_INFERENCES + 1)
        records = np.zeros(count, ring.dtype)
        newest = ring.read_window(records, count) if count else None
        if newest is None:
            return {}
        return {newest - count + 1 + i: records[i] for i in range(count)}

    def _chunk(self, record: Any, chunks: dict[int, Any]) -> dict[str, Any]:
        """The chunk in use; id -1 when there is none."""
        horizon = self.config.params.action_chunk_size
        index = int(record["chunk"]) if record is not None else -1
        chunk = chunks.get(index)
        empty = {"first_tick": -1, "row": -1, "rows_left": 0, "d_planned": 0, "d_counted": None}
        if chunk is None:
            nothing = {"s": 0, "cold": False, "episode": -1, "weights": [], "actions": []}
            mode = self.config.run.algorithm
            return {"id": -1, **empty, **nothing, "H": horizon, "mode": mode}
        row = float(record["row"])
        return {
            "id": index,
            "first_tick": int(chunk["first_tick"]),
            "row": int(row) if row.is_integer() else row,
            "rows_left": rows_left(row, horizon),
            "H": horizon,
            "d_planned": int(chunk["d_planned"]),
            "d_counted": self._d_counted(record, chunk, index),
            "s": int(chunk["s"]),
            "mode": text(chunk["mode"]),
            "cold": bool(chunk["cold"]),
            "episode": int(chunk["episode"]),
            "weights": [round(float(w), 6) for w in chunk["weights"]],
            "actions": np.round(chunk["actions"].astype(float), 5).tolist(),
        }

    def _d_counted(self, record: Any, chunk: Any, index: int) -> int | None:
        """From the tick record while the chunk is in use; None: cold, or not used yet."""
        used = int(record["chunk_first_used_tick"])
        if chunk["cold"] or int(record["chunk"]) != index or used < 0:
            return None
        return counted_delay(chunk["first_tick"], used, self.config.params.ticks_per_row)

    def _inference(self, record: Any, chunks: dict[int, Any]) -> dict[str, Any]:
        last = []
        for index, chunk in list(chunks.items())[-LAST_INFERENCES:]:
            after = chunks.get(index + 1)
            if after is not None:
                counted = int(after["previous_d_counted"])
                d_counted = counted if counted >= 0 else None
            else:
                d_counted = self._d_counted(record, chunk, index) if record is not None else None
            split = {f"{part}_ms": round(int(chunk[f"{part}_ns"]) / 1e6, 2) for part in PARTS}
            total = int(chunk["t_publish"]) - int(chunk["t_start"])
            last.append(
                {
                    "id": index,
                    "obs_tick": int(chunk["obs_tick"]),
                    "cold": bool(chunk["cold"]),
                    "d_planned": int(chunk["d_planned"]),
                    "d_counted": d_counted,
                    "s": int(chunk["s"]),
                    **split,
                    "total_ms": round(total / 1e6, 2),
                }
            )
        status = self.rings["status.inference"].buffer()
        self.rings["status.inference"].read_latest(status)
        return {
            "published": self.rings["chunk"].head,
            "late": int(status["late"]),
            "dropped": int(status["dropped"]),
            "outcomes": {outcome.name: int(status["outcomes"][outcome]) for outcome in Outcome},
            "last": last,
        }

    def _ring(self, name: str, ring: Ring) -> dict[str, Any]:
        newest = ring.buffer()
        age = None
        field = next((f for f in TIME_FIELDS if f in (ring.dtype.names or ())), None)
        if field and ring.read_latest(newest) is not None and int(newest[field]):
            age = round((clock.now_ns() - int(newest[field])) / 1e6, 1)
        return {
            "name": name,
            "slots": ring.slots,
            "head": ring.head,
            "bytes": ring.nbytes,
            "age_ms": age,
        }


def _degrees(record: Any, field: str, joints: slice) -> list[float] | None:
    if record is None or not np.isfinite(record[field]).all():
        return None
    with np.errstate(over="ignore"):  # nonsense is shown as what it is
        degrees: list[float] = np.rad2deg(record[field][joints]).round(2).tolist()
    return degrees


def rows_left(row: float, horizon: int) -> int:
    """Rows of a chunk still to come after `row`; 0 when none is being executed (row -1)."""
    return max(0, horizon - 1 - math.ceil(row)) if 0 <= row < horizon else 0


def _detail(ring: str, state: str, detail: str) -> dict[str, Any]:
    """A running control's detail is its real-time report; every other one is words."""
    if ring == "status.control" and state == "running" and detail:
        with suppress(msgspec.MsgspecError):
            grants = msgspec.json.decode(detail, type=list[Grant])
            return {"detail": "", "realtime": msgspec.to_builtins(grants)}
    return {"detail": detail}

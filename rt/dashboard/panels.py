"""What the dashboard says, a few lines for each thing. Meaning is in words and glyphs: colour only
adds to it."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from rt.dashboard import strip
from rt.dashboard.lines import (
    GAP,
    LABEL,
    Part,
    labelled,
    microseconds,
    milliseconds,
    packed,
    spread,
)
from rt.dashboard.look import Look
from rt.dashboard.sparkline import sparkline
from rt.records import AT_WORK, OVER, UNANSWERED, Hold, named

GOOD, BAD, WORTH_A_LOOK = "green", "bold red", "bold yellow"
STALLED_S = 1.0


def session(look: Look) -> list[Text]:
    """Which session, where it is, and what it is doing now."""
    s, stats = look.snapshot, look.snapshot["tick_stats"]
    title: list[Part] = [(s["robot"], "bold"), f"session {s['session']}"]
    title += [s["algorithm"], f"io {s['io']}"]
    if s["dry_run"]:
        title.append(("DRY RUN: nothing is sent", WORTH_A_LOOK))
    place = [f"tick {s['tick']}", f"{look.statistics.rate_hz:.1f} of {look.config.control_hz:g} Hz"]
    if "episode" in stats:
        won = f"{stats['successes']} of {stats['episodes']} successful"
        place += [f"episode {stats['episode']}", won]
    return [
        spread(title),
        spread(place),
        labelled("now", [_doing(look)]),
    ]


def _doing(look: Look) -> Part:
    stats, silent_s = look.snapshot["tick_stats"], look.silent_s
    if silent_s is None:
        return "waits for the first tick"
    if silent_s > max(STALLED_S, 10 / look.config.control_hz):
        return f"NO TICK for {milliseconds(silent_s * 1e3)}", BAD
    why = f": {stats['why']}" if stats["why"] else ""
    if stats["hold"] != Hold.NONE.name:
        return f"HOLDS, {stats['hold'].lower()}{why}", WORTH_A_LOOK
    return ("executes" if stats["phase"] == "RUN" else "moves to its initial pose") + why, GOOD


def processes(look: Look, most: int) -> list[Text]:
    """A line for each, `most` lines at most: those that are not well come before the others."""
    found = look.snapshot["processes"]
    if len(found) > most:
        found = sorted(found, key=_is_well)
    left_out = found[most - 1 :] if len(found) > most else []
    lines = [_process(p) for p in found[: len(found) - len(left_out)]]
    if left_out:
        well = sum(map(_is_well, left_out))
        lines.append(Text(f"and {len(left_out)} more, {well} of them at work", "dim"))
    return lines


def _is_well(process: dict[str, Any]) -> bool:
    return _state(process) in AT_WORK


def _state(process: dict[str, Any]) -> str:
    """What it says of itself; but a process that was killed says nothing more."""
    said: str = process["state"]
    return "gone" if process["scheduler"] == "gone" and said not in OVER else said


def _process(process: dict[str, Any]) -> Text:
    state, age, share = _state(process), process["heartbeat_age_ms"], process["cpu_percent"]
    style = GOOD if state in AT_WORK else BAD if state in ("failed", "gone") else WORTH_A_LOOK
    said = process.get("detail", "")
    if refused := [g["name"] for g in process.get("realtime", ()) if not g["ok"]]:
        said = "not granted: " + ", ".join(refused)
    return Text.assemble(
        f"{process['name']:<17.17} ",
        f"{'' if age is None else f'{milliseconds(age)} ago':>11}",
        f"{'' if share is None else f'{share:.1f} % cpu':>13}{GAP}",
        (state, style),
        f"{GAP}{said}" if said else "",
    )


def jitter(look: Look, ascii_only: bool) -> list[Text]:
    """How late the loop wakes, over time and in all."""
    bars = sparkline(look.worst_ns, ascii_only=ascii_only)
    highest = max((ns for ns in look.worst_ns if ns is not None), default=0)
    late = look.statistics.wake_error.summary()
    figures = [f"{name} {microseconds(us)}" for name, us in late.items()]
    overruns = look.snapshot["tick_stats"]["overruns"]
    return [
        labelled(
            "jitter", [bars, f"worst of {look.span_s:g} s each, to {microseconds(highest / 1e3)}"]
        ),
        labelled("", [*figures, (f"overruns {overruns}", WORTH_A_LOOK if overruns else "")]),
    ]


def chunk(look: Look, width: int, ascii_only: bool) -> list[Text]:
    """The chunk in use as a strip, the delays of the newest, and how inference fares."""
    in_use = look.snapshot["chunk"]
    lines = [labelled("chunk", ["none in use"])]
    if in_use["id"] >= 0:
        rows = strip.rows(in_use, look.executed)
        number = f"number {in_use['id']}"
        room = width - LABEL - len(GAP + number)
        drawn = strip.strip(rows, room, ascii_only=ascii_only)
        legend = strip.legend(rows, ascii_only=ascii_only)
        lines = [labelled("chunk", [drawn, number]), labelled("", [legend])]
    return [*lines, _delays(look), *_inference(look, width)]


def _delays(look: Look) -> Text:
    newest_first = look.snapshot["inference"]["last"][::-1]
    if not newest_first:
        return labelled("delay", ["no chunk yet"])
    newest, *older = newest_first
    now = "started cold" if newest["cold"] else f"counted {_or_dash(newest['d_counted'])}"
    parts: list[Part] = [f"{now}, planned {newest['d_planned']} rows" + _late(newest)]
    if older:
        parts.append("before: " + "  ".join(map(_delay, older)))
    return labelled("delay", parts)


def _delay(inference: dict[str, Any]) -> str:
    if inference["cold"]:
        return "cold"
    return f"{_or_dash(inference['d_counted'])}/{inference['d_planned']}{_late(inference)}"


def _late(inference: dict[str, Any]) -> str:
    counted = inference["d_counted"]
    return " late" if counted is not None and counted > inference["d_planned"] else ""


def _inference(look: Look, width: int) -> list[Text]:
    inference, stats = look.snapshot["inference"], look.snapshot["tick_stats"]
    took = [f"last {milliseconds(i['total_ms'])}" for i in inference["last"][-1:]]
    unanswered = sum(inference["outcomes"][outcome.name] for outcome in UNANSWERED)
    counts = {
        "late": inference["late"],
        **({"unanswered": unanswered} if unanswered else {}),
        "refused": inference["dropped"],
        "expired": stats.get("expired_chunks", 0),
    }
    told = [(f"{count} {name}", WORTH_A_LOOK if count else "") for name, count in counts.items()]
    return packed("inference", [*took, f"{inference['published']} chunks", *told], width)


def holds(look: Look, width: int) -> list[Text]:
    """How many ticks held, and why."""
    reasons = [f"{named(Hold, n).lower()} {count}" for n, count in look.holds.most_common()]
    counted = f"{look.snapshot['tick_stats']['holds']} ticks" + (", seen:" if reasons else "")
    return packed("holds", [counted, *reasons], width)


def sensors(look: Look, width: int) -> list[Text]:
    """How old the newest of each is."""
    robot, params, last = look.config.robot, look.config.params, look.statistics.last
    age_ms = None
    if last is not None and last["t_state"]:
        age_ms = (look.now_ns - int(last["t_state"])) / 1e6
    # It grows for a tick before control can read the next one.
    cells = [_sensor("state", age_ms, robot.max_state_age_ms + 1e3 / look.config.control_hz)]
    for camera in look.snapshot["cameras"]:
        rate = "" if camera["rate_hz"] is None else f" {camera['rate_hz']:.0f} Hz"
        cells.append(_sensor(camera["name"], camera["age_ms"], params.max_age_ms, rate))
    return packed("sensors", cells, width)


def _sensor(name: str, age_ms: float | None, most_ms: float, rate: str = "") -> Part:
    if age_ms is None:
        return f"{name} none yet", WORTH_A_LOOK
    if age_ms > most_ms:
        return f"{name} OLD {milliseconds(age_ms)}{rate}", WORTH_A_LOOK
    return f"{name} {milliseconds(age_ms)}{rate}"


def events(look: Look, most: int) -> list[Text]:
    """The newest, oldest first."""
    newest = look.events[-most:] if most > 0 else []
    return [labelled("" if i else "events", [str(event)]) for i, event in enumerate(newest)]


def _or_dash(value: int | None) -> str:
    return "-" if value is None else str(value)

"""How old a command is, and where its age comes from."""

from __future__ import annotations

from typing import Any

from results import table

from sections.drawing import COLOURS, panels, save

MEANING = {
    "picture": "captured → in its ring: painting or passing on, and 0.5 ms until it is seen there",
    "wait for inference": "→ inference begins: it uses the newest picture of each camera",
    "observation": "state and pictures copied from the rings",
    "encode": "the policy sees",
    "denoise": "the policy plans, guided",
    "join and publish": "all else in inference: normalise, check, fill the ring's slot",
    "wait for a tick": "→ the first tick that uses it wakes",
    "tick": "→ its command is sent and recorded",
}
RUNS = {
    "sim": "the simulator",
    "dds": "the fake robot over DDS, a process per camera",
}


def text(figures: dict[str, Any]) -> str:
    """The stages in a table and as stacked bars."""
    runs = {key: figures[key] for key in RUNS if key in figures}
    _draw(runs)
    head = ("", *(f"{RUNS[key]}: p50, p99" for key in runs), "")
    rows: list[tuple[object, ...]] = [
        (name, *(_pair(run["stages"][name]) for run in runs.values()), MEANING[name])
        for name in MEANING
    ]
    rows.append(("**all**", *(f"**{_pair(run['whole'])}**" for run in runs.values()), ""))
    for label, key in (("of which the policy", "policy"), ("of which rt's own work", "ours")):
        rows.append((label, *(_pair(run[key]) for run in runs.values()), ""))
    aged = "; ".join(
        f"{RUNS[key]}: p50 {run['every command']['p50']:.0f} ms, "
        f"p99 {run['every command']['p99']:.0f} ms of {run['every command']['count']} commands"
        for key, run in runs.items()
    )
    counts = " and ".join(f"{run['chunks']} with {RUNS[key]}" for key, run in runs.items())
    return f"""## End to end

From a camera's stamp to the first command that used what it saw: the demonstration policy at 20 Hz,
`rtc`, all processes on this machine. Of a chunk's three pictures the oldest is followed. Inference
was told to begin anew two rows after each chunk, so as to have many: {counts}.

{table(head, rows)}

*rt's own work* is the observation, joining and publishing, and the tick. A picture's way into its
ring is not in it: the simulator paints, a camera's process looks every 2 ms and copies. The rest is
the policy, and waiting for what comes at its own rate: pictures, inference, ticks. That waiting
costs no command: rows of the chunk before are executed meanwhile.

How old the picture behind a command was when it was sent, over every command: {aged}.

![The mean of every stage](benchmarks/end_to_end.svg)"""


def _pair(spread: dict[str, float]) -> str:
    return f"{spread['p50']:.1f}, {spread['p99']:.1f} ms"


def _draw(runs: dict[str, Any]) -> None:
    figure, (panel,) = panels(1, height=1.2 + 0.6 * len(runs))
    for place, run in enumerate(runs.values()):
        left = 0.0
        for colour, name in zip(COLOURS, MEANING, strict=True):
            mean = run["stages"][name]["mean"]
            label = name if not place else None
            panel.barh(place, mean, left=left, color=colour, label=label, edgecolor="white")
            left += mean
    panel.set_yticks(range(len(runs)), [RUNS[key].replace(", ", ",\n") for key in runs])
    panel.invert_yaxis()
    panel.set_xlabel("ms since the picture was captured; means, which add up")
    figure.legend(loc="outside upper center", ncols=4, frameon=False)
    save(figure, "end_to_end")

"""How long it takes from the death of an inference process to its successor's first chunk."""

from __future__ import annotations

from driven import Driven

from rt import clock
from rt.records import Phase, text

STAGES = ("spawn", "import", "load", "warm-up", "first chunk")


class Revival:
    """Made just before the kill."""

    def __init__(self, driven: Driven) -> None:
        self.seconds: dict[str, float] = {}  # by stage
        self.in_an_episode = True  # else it had to wait for the next to begin
        self._driven = driven
        self._t_killed = clock.now_ns()
        self._times: dict[str, int] = {}  # when a stage was over, ns

    @property
    def total_s(self) -> float:
        return sum(self.seconds.values())

    def follow(self, victim: int) -> None:
        """Wait for the first chunk of `victim`'s successor."""
        chunk = self._driven.chunks.buffer()
        last = self._driven.log.last

        def look() -> bool:
            self._driven.log.look()
            status = self._driven.status("inference")
            if int(status["pid"]) == victim:
                return False
            self._note(text(status["state"]), text(status["detail"]), int(status["heartbeat"]))
            if self._driven.chunks.read_latest(chunk) is None:
                return False
            return "warm-up" in self._times and int(chunk["t_start"]) > self._t_killed

        self._driven.until("a chunk after inference was killed", look)
        # It beats on, so that its first "ready" may have been missed.
        self._times["warm-up"] = min(self._times["warm-up"], int(chunk["t_start"]))
        self._times["first chunk"] = int(chunk["t_publish"])
        self.in_an_episode = bool((self._driven.log.since(last)["phase"] == Phase.RUN).all())
        before = self._t_killed
        for stage in STAGES:
            after = self._times.get(stage, before)
            self.seconds[stage], before = (after - before) / 1e9, after

    def _note(self, state: str, detail: str, beat: int) -> None:
        """A status says what begins; so the stage before it is over."""
        over = {"loading": "spawn", "warming up": "load", "ready": "warm-up"}.get(state)
        if detail.startswith("building"):
            over = "import"
        if over:
            self._times.setdefault(over, beat)

"""A ring that takes the steps of docs/protocol.md but for one: what the proof must catch.

The fences are left out throughout: on x86-64 they cannot show (tests/test_ring_model.py has them).
"""

from __future__ import annotations

from collections.abc import Sequence

from rt.shm import Ring
from rt.shm.buffers import Record
from rt.shm.layout import AT_HEAD
from rt.shm.ring import TRIES


class BrokenRing(Ring):
    """See the module. `fault` is a step that is left out ("W1"), or one of
    "W3 last", "W5 early", "W7 early" (before W3), "R6 older" (R6 for the newest sample alone);
    with "" it keeps the protocol."""

    fault = ""
    _first_head = 0

    def begin(self) -> Record:
        if self._next < 0:
            self._claim()
        n, slot = self._next, self._next % self._slots
        if self.fault != "W1":
            self._words[self._seq_at[slot]] = 2 * n + 1
        if self.fault in ("W5 early", "W3 last"):
            self._words[self._seq_at[slot]] = 2 * n + 2
        if self.fault in ("W7 early", "W3 last"):
            self._words[AT_HEAD] = n + 1
        self._pending = self._records[slot]
        return self._pending

    def commit(self) -> int:
        n, self._pending = self._next, None
        if self.fault not in ("W5", "W5 early"):
            self._words[self._seq_at[n % self._slots]] = 2 * n + 2
        self._next = n + 1
        if self.fault not in ("W7", "W7 early"):
            self._words[AT_HEAD] = n + 1
        return n

    def read_latest(self, out: Record) -> int | None:
        return self.read_window([out], 1)

    def read_window(self, outs: Record | Sequence[Record], k: int) -> int | None:
        targets, words = self._window(outs, k), self._words
        for _ in range(TRIES):
            head = self._head()
            if head < k:
                return None
            samples = range(head - k, head)
            if self.fault != "R3" and not self._complete(samples[0]):
                continue
            for target, sample in zip(targets, samples, strict=False):
                if self.fault != "R4":
                    target[:] = self._payloads[sample % self._slots]
            looked_at = {"R6": samples[:0], "R6 older": samples[-1:]}.get(self.fault, samples)
            if all(words[self._seq_at[n % self._slots]] == 2 * n + 2 for n in looked_at):
                return head - 1
        self.lapped += 1
        return None

    def _head(self) -> int:
        """R1; left out, the head of the first read serves for ever."""
        if self.fault != "R1" or not self._first_head:
            self._first_head = self._words[AT_HEAD]
        return self._first_head

    def _complete(self, sample: int) -> bool:
        return bool(self._words[self._seq_at[sample % self._slots]] == 2 * sample + 2)

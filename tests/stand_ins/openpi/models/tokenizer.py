"""Letters for tokens; the state, where it is said, as 256 steps from -1 to 1."""

from __future__ import annotations

from typing import Any

import numpy as np

VOCABULARY = 128


class PaligemmaTokenizer:
    def __init__(self, max_len: int = 48) -> None:
        self._max_len = max_len

    def tokenize(self, prompt: str, state: Any = None) -> tuple[Any, Any]:
        text = prompt.strip()
        if state is not None:
            steps = np.digitize(state, bins=np.linspace(-1, 1, 257)[:-1]) - 1
            text = f"{text}, State: {' '.join(map(str, steps))}"
        tokens = [ord(letter) % VOCABULARY for letter in text][: self._max_len]
        padding = self._max_len - len(tokens)
        mask = [True] * len(tokens) + [False] * padding
        return np.asarray(tokens + [0] * padding), np.asarray(mask)

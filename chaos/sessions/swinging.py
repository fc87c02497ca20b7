"""A launch whose policy asks for more than any limit allows, and misbehaves on command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from judge import Judge
from launched import Launched
from numpy.typing import NDArray
from playing import Fake, driving
from stand_ins.misbehaving import HORIZON
from strays import slews_deg, strays
from tick_log import executes, follow, holds

from rt.records import Hold, text

FELT = 0.999  # of a slew limit: a policy asked for more
HERE = Path(__file__).parent  # where it finds `stand_ins`
FLAGS = (
    *("--set", f"action_chunk_size={HORIZON}", "--set", f"min_num_actions_executed={HORIZON // 2}"),
    *("--set", "params.episode_ticks=0"),
    *("--set", "robot.max_following_error_deg=180"),  # it moves as fast as it may, and lags
)
# Of a chunk that ran out; NOT_DUE: the next one is there already.
STARVING = frozenset({"EXPIRED", "STARVED", "NO_CHUNK", "NOT_DUE"})


class Swinging:
    """Every tick of it is judged, and every command as its robot heard it."""

    def __init__(self, run: Launched, fake: Fake, orders: Path, *, steady: bool) -> None:
        """Returns once it swings. `steady`: see `strays`."""
        self.run, self.fake = run, fake
        self.log = follow(run)
        self.judge = Judge(self.log)
        self._orders, self._steady = orders, steady
        self.log.when("a row to be executed", executes)

    def order(self, words: str) -> None:
        """Have the policy misbehave so, as `stand_ins.misbehaving` takes it."""
        written = self._orders.with_suffix(".ordered")
        written.write_text(words)
        written.replace(self._orders)

    @property
    def obeyed(self) -> bool:
        """Whether the orders were carried out."""
        return not self._orders.read_text()

    @property
    def commands(self) -> int:
        """How many the robot heard."""
        self.fake.settle()
        return self.fake.report.commands

    def check(self) -> None:
        """That neither contradicts what the documents say."""
        self.fake.settle()
        heard = self.fake.report.streams.items()
        wrong = self.judge.wrong + strays(heard, self.log.config, steady=self._steady)
        assert not wrong, wrong

    def end(self) -> None:
        """End it in order, and check; also that every limit was felt."""
        assert self.run.stop() == 0, self.run.output
        self.run.nothing_left()
        self.check()
        for topic, slew_deg in slews_deg(self.log.config).items():
            assert self.fake.stream(topic).largest_step_deg > FELT * slew_deg, topic


@contextmanager
def swinging(
    label: str, fake: Fake, folder: Path, *flags: str, steady: bool = True
) -> Iterator[Swinging]:
    """A launch that drives the fake robot; its policy's files come into `folder`."""
    policy, orders = folder / "policy.yaml", folder / "orders"
    orders.touch()
    policy.write_text(
        yaml.safe_dump(
            {
                "model": {"component_config_paths": {"model": {"params": {}}}},
                "policy": {"type": "stand_ins.misbehaving:Misbehaving", "orders": str(orders)},
            }
        )
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(HERE))
        with driving(label, fake, "-P", str(policy), *FLAGS, *flags) as run:
            yield Swinging(run, fake, orders, steady=steady)


def check_holds(ticks: NDArray[Any], *allowed: str) -> set[str]:
    """That they held for want of a chunk, as `allowed`, or not at all. Returns all their holds."""
    found = {*holds(ticks)}
    others = [Hold[name] for name in found - STARVING - {*allowed}]
    words = {text(why) for why in ticks["why"][np.isin(ticks["hold"], others)]}
    assert not others, (others, words)
    return found

"""That whatever is wrong with a robot's commands is found in its report."""

from __future__ import annotations

import msgspec
import pytest
from strays import slews_deg, strays

from rt.config.load import load_config
from rt.launcher.options import parse
from rt.robots.fake.report import Stream

CONFIG = load_config(parse(["--robot", "igris_b", "--set", "params.max_delta_deg=3"])).config
ARMS, HANDS = slews_deg(CONFIG)
GOOD = Stream(
    commands=9,
    senders=2,
    first_step_deg=3,
    largest_step_deg=3,
    resumed_step_deg=3,
    three_within_ms=50,
)


def test_each_topic_has_its_own_limit() -> None:
    assert [*slews_deg(CONFIG).values()] == pytest.approx([3, 10])
    heard = {ARMS: GOOD, HANDS: msgspec.structs.replace(GOOD, first_step_deg=10)}
    assert strays(heard.items(), CONFIG) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("first_step_deg", 3.001),
        ("largest_step_deg", 3.001),
        ("resumed_step_deg", 3.001),
        ("outside_deg", 0.001),
        ("three_within_ms", 48),
        ("returned", 1),
        ("refused", 1),
    ],
)
def test_one_thing_wrong_is_found_out(field: str, value: float) -> None:
    heard = {ARMS: msgspec.structs.replace(GOOD, **{field: value}), HANDS: GOOD}
    (found,) = strays(heard.items(), CONFIG)
    assert found.startswith(ARMS)
    assert bool(strays(heard.items(), CONFIG, steady=False)) == (field != "three_within_ms")

"""Several robots' chunks in one forward: each gets what it would get alone."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from prefix_transformer import Cache, PrefixTransformer
from torch import Tensor

from rt.errors import PolicyError
from rt.infer.affine import Affine
from rt.infer.cuda_graph import Recorder, Recording, Run
from rt.infer.denoising import Guide, guided_denoise, prefix_denoise
from rt.infer.normalization import Normalizer
from rt.infer.policies.delta_flow import DeltaFlow, MixerDelta
from rt.infer.policies.flow import FlowPolicy
from rt.infer.policies.flow_model import FlowModel
from rt.infer.policy import GuidanceOptions

H, A, S, WIDTH, SEED = 8, 3, 4, 5, 7
Ask = tuple[dict[str, Any], int]
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture(autouse=True)
def failed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Exception]]:
    """Of batches, which then are run row by row: none, but where a test clears it."""
    found: list[Exception] = []
    infer = FlowPolicy._infer

    def watched(policy: FlowPolicy, rows: Any) -> Any:
        try:
            return infer(policy, rows)
        except Exception as error:
            if len(rows) > 1:
                found.append(error)
            raise

    monkeypatch.setattr(FlowPolicy, "_infer", watched)
    yield found
    assert found == []


class Network(PrefixTransformer):
    """Everything that a batch could mix up: a cache, padding joints, times of rows, a camera."""

    batches = True
    row_times = True
    camera_names = ("head",)
    image_height = image_width = 4

    def __init__(self) -> None:
        super().__init__(action_dim=A, action_horizon=H, state_dim=S, model_action_dim=WIDTH)
        self.eye = torch.nn.Conv2d(3, S, 4)
        self.sizes: list[int] = []  # of the batches that were encoded

    def encode(self, observation: dict[str, Any]) -> Cache:
        self.sizes.append(len(observation["proprio"]))
        image = self.eye(observation["head"][:, -1].float() / 255)[..., 0, 0]
        state = observation["proprio"][:, -1] + image
        if "prompt" in observation:
            state = state * len(observation["prompt"])
        cache: Cache = self.vlm(state[..., None])
        return cache

    def velocity(self, context: Cache, x: Tensor, tau: Tensor) -> Tensor:
        rows = tau if tau.ndim == 2 else tau[:, None].expand(x.shape[:2])
        tokens = self.into(torch.cat([x, rows[..., None]], dim=-1))
        for layer, (keys, values) in zip(self.queries, context, strict=True):
            query, key, value = layer(tokens).chunk(3, dim=-1)
            keys, values = torch.cat([keys, key], 1), torch.cat([values, value], 1)
            tokens = tokens + F.scaled_dot_product_attention(query, keys, values)
        v: Tensor = 3 * self.out(torch.tanh(tokens))
        return v


class OneByOne(Network):
    batches = False


class Small(torch.nn.Module):
    """Quick to compile."""

    batches = row_times = True
    action_horizon, action_dim, state_dim = H, A, S

    def __init__(self) -> None:
        super().__init__()
        self.row = torch.nn.Linear(A + 1, A)

    def encode(self, observation: dict[str, Any]) -> Tensor:
        state: Tensor = observation["proprio"][:, -1:, :A]
        return state

    def velocity(self, context: Tensor, x: Tensor, tau: Tensor) -> Tensor:
        rows = tau if tau.ndim == 2 else tau[:, None].expand(x.shape[:2])
        v: Tensor = torch.tanh(self.row(torch.cat([x, rows[..., None]], -1))) + context
        return v


def built(network: type[torch.nn.Module] = Network, device: str = "cpu", **how: Any) -> Any:
    """A policy with the same weights and the same noise to come whenever it is built."""
    torch.manual_seed(0)
    policy = FlowPolicy({"flow": network().to(device).eval()}, seed=SEED, **how)
    policy.freeze_all_model_params()
    return policy


def normalizer() -> Normalizer:
    """Whose first and last action are relative to the state, which each row has for itself."""
    random = np.random.default_rng(1)
    state, action = (
        Affine(random.standard_normal(n), 0.5 + random.random(n), shift=0.1) for n in (S, A)
    )
    return Normalizer(state, action, np.array([True, False, True]))


def ask(i: int, way: str = "vjp", **more: Any) -> Ask:
    """Robot i's: its own state, image, leftover, d, s and schedule."""
    random = np.random.default_rng(i)
    seen: dict[str, Any] = {
        "proprio": random.standard_normal((1, S)).astype(np.float32),
        "head": random.integers(0, 256, (1, 3, 4, 4), np.uint8),
    }
    if way == "free":
        return seen | more, 0
    schedule: Any = ("exp", "linear", "ones", "zeros")[i % 4]
    options = GuidanceOptions(schedule, vjp=way != "identity", prefix=way == "prefix")
    leftover = random.standard_normal((H, A)).astype(np.float32)
    tied = {"prev_action": leftover, "est_delay": i % 5, "guidance": options}
    return seen | tied | more, 1 + 3 * i % 7


def alone(asks: list[Ask], policy: Any = None) -> list[Any]:
    """The chunks of robots that ask one after another."""
    policy = policy or built()
    return [policy.guided_inference(seen, normalizer(), s, H) for seen, s in asks]


def assert_rows(got: list[Any], want: list[Any]) -> None:
    assert len(got) == len(want)
    for mine, its in zip(got, want, strict=True):
        assert (mine.shape, mine.dtype) == ((H, A), np.float32)
        np.testing.assert_allclose(mine, its, rtol=1e-4, atol=2e-5)


WAYS = ("free", "vjp", "identity", "prefix")


# --- a row of a batch is the row alone


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("way", WAYS)
def test_a_row_of_a_batch_is_the_row_alone(way: str, count: int) -> None:
    asks = [ask(i, way) for i in range(count)]
    want = alone(asks)
    assert_rows(built().infer_many(asks, normalizer()), want)
    for i in range(1, count):
        assert np.abs(want[i] - want[0]).max() > 0.1, "rows that could not be told apart"


@pytest.mark.parametrize("way", ["vjp", "identity", "prefix"])
def test_a_row_without_a_leftover_goes_beside_guided_ones(way: str) -> None:
    asks = [ask(0, "free"), ask(1, way), ask(2, "free"), ask(3, way)]
    policy = built()
    got = policy.infer_many(asks, normalizer())
    assert policy._network.sizes == [4], "one forward"
    assert_rows(got, alone(asks))
    seen, s = asks[1]
    untied = {key: value for key, value in seen.items() if key != "prev_action"}
    other = alone([asks[0], (untied, s)])[1]
    assert np.abs(got[1] - other).max() > 0.1, "a pull that could not be seen"


def test_a_batch_of_one_is_the_row_alone_bit_for_bit() -> None:
    for way in WAYS:
        (got,) = built().infer_many([ask(3, way)], normalizer())
        np.testing.assert_array_equal(got, alone([ask(3, way)])[0])


def test_predict_looks_at_no_leftover() -> None:
    np.testing.assert_array_equal(
        built().predict(ask(1)[0], normalizer()), built().predict(ask(1, "free")[0], normalizer())
    )


def test_a_chunk_is_anchored_at_its_own_state() -> None:
    """The same but for the state, which the network does not see: actions move with it."""
    policy = built()
    with torch.no_grad():
        policy._network.vlm.tokens.weight.zero_()
    shift = np.array([10, 20, 30, 40], np.float32)
    seen, _ = ask(0, "free")
    asks = [(seen, 0), (seen | {"proprio": seen["proprio"] + shift}, 0)]
    policy._items._noise = lambda: torch.ones(H, WIDTH)
    first, second = policy.infer_many(asks, normalizer())
    np.testing.assert_allclose(second - first, np.tile([10, 0, 30], (H, 1)), atol=1e-4)


def test_the_demonstration_policy_s_network_batches() -> None:
    def policy() -> FlowPolicy:
        torch.manual_seed(0)
        network = FlowModel(
            state_dim=S,
            action_dim=A,
            action_horizon=H,
            camera_names=["head"],
            image_height=4,
            image_width=4,
            rows_per_token=2,
            width=8,
            depth=1,
        )
        torch.nn.init.normal_(network.head.weight, std=0.3)
        return FlowPolicy({"flow": network.eval()}, seed=SEED)

    asks = [ask(i, "vjp" if i % 2 else "free") for i in range(4)]
    assert policy().batches
    assert_rows(policy().infer_many(asks, normalizer()), alone(asks, policy()))


def test_a_batch_of_a_delta_expert_s_chunks_is_corrected_row_by_row() -> None:
    def policy() -> FlowPolicy:
        torch.manual_seed(0)
        sizes = {"action_dim": A, "action_horizon": H, "context_dim": 8, "rows_per_token": 2}
        sizes |= {"width": 8, "depth": 1}
        delta = MixerDelta(
            **sizes, hidden_size=8, context_rows=2, correction="add", without_context="zeros"
        )
        network = DeltaFlow(FlowModel(state_dim=S, camera_names=[], **sizes), delta)
        for weights in network.parameters():
            torch.nn.init.normal_(weights, std=0.3)
        return FlowPolicy({"flow": network.eval()}, seed=SEED)

    rows = np.random.default_rng(0).standard_normal((4, 2, A)).astype(np.float32)
    asks = [ask(i, action_context=rows[i]) for i in range(4)]
    want = alone(asks, policy())
    assert_rows(policy().infer_many(asks, normalizer()), want)
    asks[0] = ask(0, action_context=-rows[0])
    assert np.abs(policy().infer_many(asks, normalizer())[0] - want[0]).max() > 1e-3


# --- what is not finite or not right stays in its row


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["proprio", "prev_action"])
@pytest.mark.parametrize("way", ["vjp", "identity", "prefix"])
def test_what_is_not_finite_touches_no_neighbour(way: str, where: str, bad: float) -> None:
    asks = [ask(i, way) for i in range(4)]
    want = built().infer_many(asks, normalizer())
    seen, s = asks[2]
    seen = seen | {where: np.full_like(seen[where], bad)}
    with np.errstate(invalid="ignore"):  # of which numpy warns
        got = built().infer_many([*asks[:2], (seen, s), asks[3]], normalizer())
    for i in (0, 1, 3):
        np.testing.assert_array_equal(got[i], want[i])
    assert not np.array_equal(got[2], want[2]), "a fault that could not be seen"


@pytest.mark.parametrize(
    ("odd", "told"),
    [
        ({"prev_action": np.zeros((H - 1, A))}, r"prev_action must be \(8, 3\)"),
        ({"est_delay": -1}, "at least 0, got -1"),
        ({"proprio": np.zeros((1, S + 1))}, "state_dim is 4"),
        ({"guidance": {"prefix": True}}, "GuidanceOptions, got dict"),
    ],
)
def test_an_ask_that_is_wrong_is_told_so_alone(odd: dict[str, Any], told: str) -> None:
    asks = [ask(0), ask(1, **odd), ask(2)]
    policy = built()
    got = policy.infer_many(asks, normalizer())
    with pytest.raises(PolicyError, match=told):
        raise got[1]
    assert_rows([got[0], got[2]], alone([asks[0], asks[2]]))
    assert policy._network.sizes == [2], "the others were still one batch"


def test_what_only_the_network_refuses_is_refused_alone() -> None:
    asks = [ask(0), ask(1, head=np.zeros((1, 3, 2, 2), np.uint8)), ask(2, "free")]
    got = built().infer_many(asks, normalizer())
    assert isinstance(got[1], RuntimeError)
    want = alone([asks[0], ask(1), asks[2]])  # which draws what was drawn for it
    assert_rows([got[0], got[2]], [want[0], want[2]])


def test_a_batch_that_fails_is_run_row_by_row(failed: list[Exception]) -> None:
    class Strict(Network):
        def encode(self, observation: dict[str, Any]) -> Cache:
            if not observation["proprio"].isfinite().all():
                raise ValueError("not finite")
            return super().encode(observation)

    asks = [ask(0), ask(1, "free"), ask(2, proprio=np.full((1, S), np.nan, np.float32)), ask(3)]
    got = built(Strict).infer_many(asks, normalizer())
    assert isinstance(got[2], ValueError)
    assert [type(error) for error in failed] == [ValueError]
    failed.clear()
    want = alone([*asks[:2], ask(2), asks[3]])
    assert_rows([got[i] for i in (0, 1, 3)], [want[i] for i in (0, 1, 3)])


def test_nobody_asks() -> None:
    assert built().infer_many([], normalizer()) == []


# --- what is run together


def test_asks_that_cannot_be_one_batch_are_several() -> None:
    beta = GuidanceOptions(max_guidance_weight=1.0)
    asks = [
        *(ask(0), ask(1, "identity"), ask(2, "prefix"), ask(3, guidance=beta), ask(4, "free")),
        *(ask(5, prompt="cup"), ask(6, prompt="box of cups"), ask(7, prompt="cup")),
        ask(8, head=np.zeros((2, 3, 4, 4), np.uint8)),
    ]
    policy = built()
    got = policy.infer_many(asks, normalizer())
    assert sorted(policy._network.sizes) == [1, 1, 1, 1, 1, 2, 2]
    assert_rows(got, alone(asks))


def test_schedules_are_no_reason_to_be_apart() -> None:
    policy = built()
    policy.infer_many([ask(i) for i in range(4)], normalizer())
    assert policy._network.sizes == [4]


@pytest.mark.parametrize("way", WAYS)
def test_a_network_that_says_nothing_of_batches_is_run_row_by_row(way: str) -> None:
    asks = [ask(i, way) for i in range(3)]
    policy = built(OneByOne)
    got = policy.infer_many(asks, normalizer())
    assert policy._network.sizes == [1, 1, 1]
    for mine, its in zip(got, alone(asks, built(OneByOne)), strict=True):
        np.testing.assert_array_equal(mine, its)


@pytest.mark.parametrize(("count", "size"), [(1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (9, 16)])
def test_a_batch_is_filled_up_to_a_size_that_is_known(count: int, size: int) -> None:
    policy = built()
    assert len(policy.infer_many([ask(i) for i in range(count)], normalizer())) == count
    assert policy._network.sizes == [size]


def test_the_parts_of_all_batches_are_added_up() -> None:
    policy = built()
    policy._stopwatch.between = lambda start, end: 5
    policy.infer_many([ask(0), ask(1, "prefix"), ask(2, est_delay=-1)], normalizer())
    assert policy.latency == {"encode_ns": 10, "denoise_ns": 10}


# --- nothing is compiled or recorded after warm-up


def test_warm_up_runs_every_size_and_draws_no_more_noise() -> None:
    few, many = built(), built()
    few.warmup()
    many.warmup_many(6)
    assert set(few._network.sizes) == {1}
    assert set(many._network.sizes) == {1, 2, 4, 8}
    want, got = (policy.predict(ask(0)[0], normalizer()) for policy in (few, many))
    np.testing.assert_array_equal(got, want)


def all_counts() -> Iterator[list[Ask]]:
    for count in (1, 2, 3, 5, 9):
        for way in WAYS:
            yield [ask(i, way if i % 3 else "free") for i in range(count)]
            yield [ask(i, way) for i in range(count)]


def test_no_count_compiles_anything_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each size is a graph of a guided step: more of them than torch by itself would compile."""
    torch._dynamo.reset()
    monkeypatch.setattr(torch._dynamo.config, "fail_on_recompile_limit_hit", True)
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    policy, want = built(Small, compile=True), built(Small)
    policy.warmup_many(16)
    want.warmup()  # both have now drawn the same noise
    for size in (1, 2, 4, 8, 16):  # what the pipeline's own warm-up would compile
        asks = [ask(0, "identity")] * size
        assert_rows(policy.infer_many(asks, normalizer()), want.infer_many(asks, normalizer()))
    with torch.compiler.set_stance("fail_on_recompile"):
        for asks in all_counts():
            got = policy.infer_many(asks, normalizer())
            assert_rows(got, want.infer_many(asks, normalizer()))
    torch._dynamo.reset()


def test_no_count_records_anything_again() -> None:
    recorded: list[Run] = []

    def record(run: Run) -> Recording:
        recorded.append(run)
        result = run().clone()

        def replay() -> None:
            result.copy_(run())

        return replay, result

    policy, want = built(), built()
    policy._fast._loop = Recorder(policy._fast._loop, record)
    policy.warmup_many(16)
    want.warmup()  # both have now drawn the same noise
    assert len(recorded) == 5 * 3  # sizes; free, guided, clean prefix
    for size in (1, 2, 4, 8, 16):
        row = [ask(0, "identity")] * size
        for one in policy, want:
            one.infer_many(row, normalizer())
    assert len(recorded) == 5 * 4
    for asks in all_counts():
        got = policy.infer_many(asks, normalizer())
        assert_rows(got, want.infer_many(asks, normalizer()))
    assert len(recorded) == 5 * 4


@needs_cuda
@pytest.mark.parametrize("way", WAYS)
def test_on_cuda_a_recorded_batch_is_the_rows_alone(way: str) -> None:
    asks = [ask(i, way) for i in range(5)]
    recorded = built(device="cuda", cuda_graph=True, tf32=False)
    got = recorded.infer_many(asks, normalizer())
    want = alone(asks, built(device="cuda", tf32=False))
    for mine, its in zip(got, want, strict=True):
        np.testing.assert_allclose(mine, its, rtol=1e-3, atol=1e-4)


# --- the loop itself


def velocity(x: Tensor, tau: Tensor) -> Tensor:
    """Every row of a chunk sees every other; tau is (B,) or (B, H)."""
    rows = tau[:, None] if tau.ndim == 1 else tau
    return torch.tanh(x).mean(1, keepdim=True) - 0.5 * x + rows[..., None]


@pytest.mark.parametrize("way", ["vjp", "identity", "prefix"])
def test_weights_of_each_chunk_of_a_batch(way: str) -> None:
    random = torch.Generator().manual_seed(0)
    shape = (3, H, A)
    noise, leftover = (torch.randn(shape, dtype=torch.float64, generator=random) for _ in "ab")
    weights = torch.rand(shape, dtype=torch.float64, generator=random)
    weights[0, :2] = weights[1, :5] = 1
    weights[2] = 0
    leftover[2] = torch.nan  # never looked at

    def run(rows: slice, guide: Guide) -> Tensor:
        if way == "prefix":
            return prefix_denoise(velocity, noise[rows], 5, guide)
        return guided_denoise(velocity, noise[rows], 5, guide, vjp=way == "vjp")

    together = run(slice(None), Guide(leftover, weights))
    for i in range(3):
        one = run(slice(i, i + 1), Guide(leftover[i], weights[i]))
        torch.testing.assert_close(together[i : i + 1], one, rtol=1e-12, atol=1e-12)


def test_weights_of_another_batch_are_refused() -> None:
    guide = Guide(torch.zeros(3, H, A), torch.zeros(2, H, A))
    with pytest.raises(PolicyError, match=r"needs weights \(8,\), got \(2, 8, 3\)"):
        guided_denoise(velocity, torch.zeros(3, H, A), 5, guide)

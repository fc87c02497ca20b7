"""Real-Time Chunking's mathematics against its equations, written out a second time in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from rt.errors import PolicyError
from rt.infer.denoising import Guide, guidance_weight, guided_denoise
from rt.infer.inpainting import compute_guided_prefix_weights, guided_action_chunk_inference

H, A, STEPS = 6, 2, 5
SCHEDULES = ("exp", "linear", "ones", "zeros")


class CoupledFlow:
    """v = P x + tanh(Q x) + tau b over all rows and joints at once, so its Jacobian is dense."""

    def __init__(self) -> None:
        random = np.random.default_rng(3)
        n = H * A
        self.P, self.Q = 0.3 * random.standard_normal((2, n, n))
        self.b = random.standard_normal(n)

    def __call__(self, x: torch.Tensor, tau: torch.Tensor) -> torch.Tensor:
        P, Q, b = (torch.as_tensor(a).to(x) for a in (self.P, self.Q, self.b))
        z = x.flatten(1)
        return (z @ P.T + torch.tanh(z @ Q.T) + tau[:, None] * b).view_as(x)

    def numpy(self, z: Any, tau: float) -> tuple[Any, Any]:
        """Velocity and its Jacobian."""
        t = np.tanh(self.Q @ z)
        return self.P @ z + t + tau * self.b, self.P + (1 - t**2)[:, None] * self.Q


def reference(
    flow: CoupledFlow, noise: Any, leftover: Any, weights: Any, beta: float, vjp: bool
) -> Any:
    """Equations 1 to 4 on a flat vector, with the Jacobian as a matrix."""
    z, y, w = noise.ravel(), leftover.ravel(), np.repeat(weights.astype(float), A)
    for step in range(STEPS):
        tau = step / STEPS
        v, J = flow.numpy(z, tau)
        estimate = z + (1 - tau) * v
        jacobian = np.eye(len(z)) + (1 - tau) * J if vjp else np.eye(len(z))
        g = ((y - estimate) * w) @ jacobian
        r2 = (1 - tau) ** 2 / (tau**2 + (1 - tau) ** 2)
        scale = beta if tau == 0 else min(beta, (1 - tau) / (tau * r2))
        z = z + (v + scale * g) / STEPS
    return z.reshape(noise.shape)


def sample(seed: int, dtype: torch.dtype = torch.float64, batch: int = 1) -> Any:
    """Noise (B, H, A), leftover (H, A) and weights (H,) for d = 2, s = 1."""
    random = np.random.default_rng(seed)
    noise = torch.tensor(random.standard_normal((batch, H, A)), dtype=dtype)
    leftover = torch.tensor(random.standard_normal((H, A)), dtype=dtype)
    return noise, leftover, torch.from_numpy(compute_guided_prefix_weights(2, 1, H))


@pytest.mark.parametrize(
    ("d", "s", "total", "schedule", "weights"),
    [
        (3, 4, 10, "exp", [1, 1, 1, 0.487551, 0.188770, 0.041324, 0, 0, 0, 0]),
        (3, 4, 10, "linear", [1, 1, 1, 0.75, 0.5, 0.25, 0, 0, 0, 0]),
        (3, 4, 10, "ones", [1, 1, 1, 1, 1, 1, 0, 0, 0, 0]),
        (3, 4, 10, "zeros", [1, 1, 1, 0, 0, 0, 0, 0, 0, 0]),
        (3, 7, 10, "exp", [1, 1, 1, 0, 0, 0, 0, 0, 0, 0]),
        (2, 2, 8, "exp", [1, 1, 0.570589, 0.287072, 0.114492, 0.025770, 0, 0]),
        (
            *(5, 35, 50, "exp"),
            [1] * 5
            + [0.784116, 0.603001, 0.452642, 0.329461, 0.230270]
            + [0.152228, 0.092810, 0.049766, 0.021099, 0.005035]
            + [0] * 35,
        ),
        (5, 35, 40, "exp", [1] * 5 + [0] * 35),
    ],
)
def test_weights_are_equation_5(
    d: int, s: int, total: int, schedule: Any, weights: list[float]
) -> None:
    got = compute_guided_prefix_weights(d, s, total, schedule=schedule)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, weights, atol=1e-6)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_nothing_pulls_where_nothing_is_left_of_the_old_chunk(schedule: Any) -> None:
    for total in (1, 2, 7, 50):
        for s in range(total + 6):
            for d in range(total + 6):
                weights = compute_guided_prefix_weights(d, s, total, schedule=schedule)
                left = max(0, total - s)
                assert weights.shape == (total,)
                assert np.all(weights[left:] == 0), (d, s, total)
                assert np.all(weights[: min(d, left)] == 1), (d, s, total)
                assert np.all(np.diff(weights) <= 0), (d, s, total)
                assert np.all((weights >= 0) & (weights <= 1)), (d, s, total)


@pytest.mark.parametrize(("d", "s", "total"), [(-1, 4, 10), (3, -4, 10), (3, 4, -10)])
def test_negative_rows_are_refused(d: int, s: int, total: int) -> None:
    with pytest.raises(PolicyError, match="at least 0"):
        compute_guided_prefix_weights(d, s, total)


def test_an_unknown_schedule_is_refused_with_the_known_ones() -> None:
    with pytest.raises(PolicyError, match="exp, linear, ones, zeros"):
        compute_guided_prefix_weights(3, 4, 10, schedule="cosine")  # type: ignore[arg-type]


def test_guidance_is_beta_at_the_start_and_clipped_to_it() -> None:
    weights = [guidance_weight(step / STEPS, 5.0) for step in range(STEPS)]
    np.testing.assert_allclose(weights, [5, 4.25, 2.166667, 2.166667, 4.25], atol=1e-6)
    assert [guidance_weight(step / STEPS, 2.0) for step in range(STEPS)] == [2.0] * STEPS


@pytest.mark.parametrize("beta", [5.0, 1.5])
@pytest.mark.parametrize("vjp", [True, False])
def test_guided_denoising_is_equations_1_to_4(vjp: bool, beta: float) -> None:
    flow = CoupledFlow()
    for seed in range(5):
        noise, leftover, weights = sample(seed)
        got = guided_denoise(
            flow,
            noise,
            STEPS,
            Guide(leftover, weights),
            max_guidance_weight=beta,
            vjp=vjp,
        )
        want = reference(flow, noise.numpy(), leftover.numpy(), weights.numpy(), beta, vjp)
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-9, atol=1e-9)


def test_the_jacobian_is_not_the_identity() -> None:
    noise, leftover, weights = sample(0)
    flow = CoupledFlow()
    true, identity = (
        guided_denoise(flow, noise, STEPS, Guide(leftover, weights), vjp=vjp)
        for vjp in (True, False)
    )
    assert (true - identity).abs().max() > 0.1


def test_every_sample_of_a_batch_is_guided_by_its_own_leftover() -> None:
    flow = CoupledFlow()
    noise, _, weights = sample(1, batch=3)
    leftovers = torch.randn(3, H, A, dtype=noise.dtype, generator=torch.Generator().manual_seed(0))
    together = guided_denoise(flow, noise, STEPS, Guide(leftovers, weights))
    for i in range(3):
        alone = guided_denoise(flow, noise[i : i + 1], STEPS, Guide(leftovers[i], weights))
        torch.testing.assert_close(together[i : i + 1], alone)


def test_guidance_works_inside_inference_mode() -> None:
    noise, leftover, weights = sample(2)
    outside = guided_denoise(CoupledFlow(), noise, STEPS, Guide(leftover, weights))
    with torch.inference_mode():
        inner = [tensor.clone() for tensor in (noise, leftover, weights)]
        inside = guided_denoise(CoupledFlow(), inner[0], STEPS, Guide(inner[1], inner[2]))
    assert torch.equal(outside, inside)


def test_parameters_that_were_not_frozen_record_nothing() -> None:
    layer = torch.nn.Linear(A, A, dtype=torch.float64)
    noise, leftover, weights = sample(2)
    actions = guided_denoise(lambda x, tau: layer(x), noise, STEPS, Guide(leftover, weights))
    assert not actions.requires_grad


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("guide", ["vjp", "identity", "none"])
def test_the_noise_keeps_its_dtype(dtype: torch.dtype, guide: str) -> None:
    noise, leftover, weights = sample(0, dtype)
    options: dict[str, Any] = {}
    if guide != "none":
        options = {"guide": Guide(leftover.double(), weights), "vjp": guide == "vjp"}
    assert guided_denoise(CoupledFlow(), noise, STEPS, **options).dtype == dtype


@pytest.mark.parametrize("vjp", [True, False])
def test_the_device_is_never_waited_for(vjp: bool) -> None:
    """A tensor on `meta` has no values: whatever had to see one on the host would fail."""
    noise = torch.empty(1, H, A, device="meta")
    leftover, weights = torch.empty(H, A, device="meta"), torch.empty(H, device="meta")
    actions = guided_denoise(
        lambda x, tau: torch.tanh(x) * tau[:, None, None],
        noise,
        STEPS,
        Guide(leftover, weights),
        vjp=vjp,
    )
    assert actions.device.type == "meta"


def test_guidance_traces_into_one_graph() -> None:
    flow = torch.nn.Sequential(torch.nn.Linear(A, 8), torch.nn.Tanh(), torch.nn.Linear(8, A))
    flow.requires_grad_(False)
    noise, leftover, weights = sample(0, torch.float32)

    def denoise(noise: torch.Tensor, leftover: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return guided_denoise(
            lambda x, tau: flow(x) + tau[:, None, None], noise, STEPS, Guide(leftover, w)
        )

    traced = torch.compile(denoise, backend="aot_eager", fullgraph=True)
    with torch.inference_mode():
        torch.testing.assert_close(
            traced(noise, leftover, weights), denoise(noise, leftover, weights)
        )


def test_zero_weights_leave_the_chunk_as_it_was() -> None:
    noise, leftover, _ = sample(4)
    free = guided_denoise(CoupledFlow(), noise, STEPS)
    guided = guided_denoise(CoupledFlow(), noise, STEPS, Guide(leftover, torch.zeros(H)))
    assert torch.equal(free, guided)


def test_a_row_is_pulled_only_through_its_weight() -> None:
    """With rows that do not see one another, a row of weight 0 moves as if unguided."""

    def row_wise(x: torch.Tensor, tau: torch.Tensor) -> torch.Tensor:
        return torch.sin(x) + tau[:, None, None]

    noise, leftover, weights = sample(5)
    free = guided_denoise(row_wise, noise, STEPS)
    guided = guided_denoise(row_wise, noise, STEPS, Guide(leftover, weights))
    pulled = weights > 0
    assert torch.equal(free[:, ~pulled], guided[:, ~pulled])
    assert (free[:, pulled] != guided[:, pulled]).all()


def test_what_the_leftover_holds_beyond_its_end_is_never_looked_at() -> None:
    noise, leftover, weights = sample(6)
    nasty = leftover.clone()
    nasty[weights == 0] = torch.nan
    flow = CoupledFlow()
    want = guided_denoise(flow, noise, STEPS, Guide(leftover, weights))
    assert torch.equal(want, guided_denoise(flow, noise, STEPS, Guide(nasty, weights)))


def test_the_frozen_prefix_comes_close_to_the_leftover() -> None:
    """A flow to one point (v = (goal − x)/(1 − tau)) would ignore the leftover without guidance;
    a flow that keeps its noise (v = 0) lands on it where the weight is 1."""
    noise, leftover, weights = sample(7)
    chunk = guided_denoise(
        lambda x, tau: torch.zeros_like(x), noise, STEPS, Guide(leftover, weights)
    )
    frozen = weights == 1
    before = (noise[0] - leftover)[frozen].abs().max()
    assert (chunk[0] - leftover)[frozen].abs().max() < 0.05 * before


def test_wrong_shapes_are_told() -> None:
    noise, leftover, weights = sample(0)
    with pytest.raises(PolicyError, match=r"leftover .*\(6, 2\).*got \(5, 2\)"):
        guided_denoise(CoupledFlow(), noise, STEPS, Guide(leftover[:5], weights))
    with pytest.raises(PolicyError, match=r"needs weights \(6,\), got \(5,\)"):
        guided_denoise(CoupledFlow(), noise, STEPS, Guide(leftover, weights[:5]))
    with pytest.raises(PolicyError, match="at least 1 step"):
        guided_denoise(CoupledFlow(), noise, 0)


class Decoder:
    """Records how it is called; its velocity depends on both inputs."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def __call__(self, **inputs: Any) -> torch.Tensor:
        self.calls.append(inputs)
        memory, x = inputs["memory_input"], inputs["noise"]
        shift = 0 if memory is None else memory.mean()
        v: torch.Tensor = torch.tanh(x) + shift + inputs["time"][:, None, None]
        return v


def infer(decoder: Decoder, **changes: Any) -> torch.Tensor:
    noise, leftover, _ = sample(8)
    arguments: dict[str, Any] = {
        "action_decoder": decoder,
        "cond_memory": torch.ones(1, 3, 4, dtype=torch.float64),
        "discrete_semantic_input": "tokens",
        "prev_action_chunk": leftover[None],
        "delay": 2,
        "executed_steps": 1,
        "num_ode_sim_steps": STEPS,
        "num_queries": H,
        "action_dim": A,
        "input_noise": noise,
    }
    chunk: torch.Tensor = guided_action_chunk_inference(**(arguments | changes))
    return chunk


def test_a_decoder_is_called_once_a_step_by_its_keywords() -> None:
    decoder = Decoder()
    infer(decoder)
    assert len(decoder.calls) == STEPS
    for step, call in enumerate(decoder.calls):
        assert set(call) == {"time", "noise", "memory_input", "discrete_semantic_input"}
        assert call["discrete_semantic_input"] == "tokens"
        assert call["memory_input"].shape == (1, 3, 4)
        torch.testing.assert_close(call["time"], torch.tensor([step / STEPS]).double())
        assert call["noise"].shape == (1, H, A)


def test_a_decoder_is_guided_like_any_other_velocity() -> None:
    noise, leftover, weights = sample(8)
    want = guided_denoise(
        lambda x, tau: torch.tanh(x) + 1 + tau[:, None, None],
        noise,
        STEPS,
        Guide(leftover, weights),
    )
    torch.testing.assert_close(infer(Decoder()), want)


def test_without_a_previous_chunk_a_decoder_is_not_guided() -> None:
    noise, _, _ = sample(8)
    want = guided_denoise(lambda x, tau: torch.tanh(x) + 1 + tau[:, None, None], noise, STEPS)
    torch.testing.assert_close(infer(Decoder(), prev_action_chunk=None), want)


def test_a_short_previous_chunk_is_padded_where_its_weight_is_zero() -> None:
    _, leftover, _ = sample(8)
    torch.testing.assert_close(
        infer(Decoder(), prev_action_chunk=leftover[: H - 1]), infer(Decoder())
    )


@pytest.mark.parametrize(
    "given",
    [
        {"cond_memory": torch.ones(3, 4)},
        {"cond_memory": torch.ones(3, 4), "prev_action_chunk": torch.ones(1, H, A)},
        {"prev_action_chunk": torch.ones(3, H, A)},
    ],
)
def test_noise_is_drawn_for_the_batch_of_what_is_given(given: dict[str, torch.Tensor]) -> None:
    absent = {"cond_memory": None, "prev_action_chunk": None, "input_noise": None}
    first, second = (infer(Decoder(), **(absent | given)) for _ in range(2))
    assert first.shape == (3, H, A)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("executed", [0, 4, 9, 10, 12])
@pytest.mark.parametrize("delay", [0, 3, 10, 40])
def test_any_d_and_s_of_any_leftover_will_do(delay: int, executed: int) -> None:
    """With nothing left of the old chunk, nothing is pulled."""
    old = torch.full((1, 10, 3), 2.0)
    noise = torch.randn(1, 10, 3, generator=torch.Generator().manual_seed(0))

    def decoder(*, noise: Any, time: Any, **_: Any) -> Any:
        return torch.tanh(noise) + time[:, None, None]

    def infer(prev: torch.Tensor | None) -> torch.Tensor:
        return guided_action_chunk_inference(
            decoder, None, None, prev, delay, executed, STEPS, 10, 3, input_noise=noise
        )

    chunk, free = infer(old[:, executed:]), infer(None)
    assert chunk.shape == (1, 10, 3)
    assert torch.isfinite(chunk).all()
    assert torch.equal(chunk, free) == (executed >= 10)

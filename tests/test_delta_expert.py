"""Action context and the delta expert: lengths, the one step, replace and add, training."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from prefix_transformer import PrefixTransformer
from torch import Tensor, nn
from two_ways import TwoWays

from rt.errors import ConfigError, PolicyError
from rt.infer import build_policy
from rt.infer.affine import Affine
from rt.infer.delta_expert import ActionContextEncoder, DeltaExpert, delta_loss, stretch
from rt.infer.normalization import Normalizer
from rt.infer.policies.delta_flow import DeltaFlow, DeltaFlowPolicy, MixerDelta
from rt.infer.policies.flow import FlowPolicy
from rt.infer.policies.flow_model import FlowModel
from rt.infer.policy import GuidanceOptions
from rt.infer.second_expert import second_expert

B, N, H, A, S, WIDTH = 3, 5, 8, 2, 4, 6  # WIDTH: of actions inside the network
POLICY = Path(__file__).parents[1] / "configs/policies/flow_demo_delta/policy.yaml"
IDENTITY = Normalizer.identity()


class Steps(nn.Module):
    """An expert that notes what it is asked and answers 10."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[Any, Tensor, Tensor]] = []

    def velocity(self, prefix: Any, x: Tensor, tau: Tensor) -> Tensor:
        self.asked.append((prefix, x, tau))
        return torch.full_like(x, 10.0)


def transformer() -> PrefixTransformer:
    torch.manual_seed(0)
    return PrefixTransformer(
        action_dim=A, action_horizon=H, state_dim=S, model_action_dim=WIDTH
    ).eval()


def delta(expert: nn.Module | None = None, **options: Any) -> DeltaExpert:
    torch.manual_seed(1)
    expert = expert or second_expert(transformer(), ["vlm"])
    return DeltaExpert(expert, action_dim=WIDTH, action_horizon=H, **options)


def mixers() -> DeltaFlow:
    """The demonstration policy's two networks, small and without cameras; H is 10."""
    torch.manual_seed(0)
    chunk = {"action_dim": A, "action_horizon": 10}
    sizes: Any = chunk | {"context_dim": 16, "rows_per_token": 5, "width": 16, "depth": 1}
    mixer = MixerDelta(
        **sizes, hidden_size=128, context_rows=N, correction="replace", without_context="zeros"
    )
    return DeltaFlow(FlowModel(state_dim=S, camera_names=[], **sizes), mixer)


def observation(batch: int = B, context: bool = True) -> dict[str, Any]:
    seeded = torch.Generator().manual_seed(2)
    seen = {"proprio": torch.randn(batch, 1, S, generator=seeded)}
    rows = {"action_context": torch.randn(batch, N, A, generator=seeded)} if context else {}
    return seen | rows


def input_data(**more: Any) -> dict[str, Any]:
    """As a policy is given it."""
    return {"proprio": np.full((1, S), 0.5, np.float32), **more}


def rows(value: float = 0.3) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.full((N, A), value, np.float32)


# --- the encoder


def test_a_context_shorter_than_the_chunk_is_repeated_from_its_first_row_on() -> None:
    stretched = stretch(torch.arange(3.0).view(1, 3, 1), 7)
    assert stretched.flatten().tolist() == [0, 1, 2, 0, 1, 2, 0]


def test_a_longer_one_is_interpolated_from_its_first_row_to_its_last() -> None:
    stretched = stretch(torch.tensor([0.0, 1.0, 2.0, 6.0]).view(1, 4, 1), 3)
    assert stretched.flatten().tolist() == [0.0, 1.5, 6.0]
    assert stretch(torch.arange(4.0).view(1, 4, 1), 1).shape == (1, 1, 1)


def test_one_of_the_same_length_stays_as_it_is() -> None:
    exact = torch.randn(2, 5, 3)
    assert torch.equal(stretch(exact, 5), exact)


def test_each_row_is_encoded_by_linear_relu_linear_over_the_padded_action() -> None:
    encoder = ActionContextEncoder(WIDTH, 7, 5)
    given = torch.randn(B, N, A)
    padded = torch.cat([given, torch.zeros(B, N, WIDTH - A)], dim=-1)
    (w1, b1), (w2, b2) = (tuple(encoder.rows[i].parameters()) for i in (0, 2))
    hidden = (padded @ w1.T + b1).clamp(min=0)
    torch.testing.assert_close(encoder(given), hidden @ w2.T + b2)


@pytest.mark.parametrize("shape", [(N, A), (1, 0, A), (1, N, WIDTH + 1)])
def test_a_context_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(PolicyError, match=r"an action context is \(B, N, up to 6 actions\)"):
        ActionContextEncoder(WIDTH, 7, H)(torch.zeros(shape))


# --- the one step


def test_replacing_takes_one_step_from_the_encoded_context_at_half_time() -> None:
    expert = Steps()
    network = DeltaFlow(transformer(), delta(expert))
    seen = observation()
    context = network.encode(seen)
    ((prefix, x, tau),) = expert.asked
    assert prefix is context.prefix  # the policy's own, not another encoding
    assert tau.tolist() == [0.5] * B
    assert torch.equal(x, network.delta.encoder(seen["action_context"]))
    torch.testing.assert_close(context.chunk, x + 0.5 * 10, rtol=0, atol=0)


def test_adding_takes_it_from_the_encoded_context_and_the_denoised_chunk() -> None:
    expert = Steps()
    network = DeltaFlow(transformer(), delta(expert, correction="add"))
    context = network.encode(observation())
    assert expert.asked == []
    denoised = torch.randn(B, H, WIDTH)
    finished = network.finish(context, denoised)
    ((_, x, tau),) = expert.asked
    assert context.encoded is not None
    assert torch.equal(x, context.encoded + denoised)
    assert tau.tolist() == [0.5] * B
    assert torch.equal(finished, denoised + 0.5 * 10)


@pytest.mark.parametrize("correction", ["replace", "add"])
def test_without_a_context_zeros_stand_where_it_was(correction: Any) -> None:
    """Not what the encoder makes of zeros: its biases would be a learnt context."""
    network = DeltaFlow(transformer(), delta(correction=correction))
    encoded = network.encode(observation(context=False)).encoded
    torch.testing.assert_close(encoded, torch.zeros(B, H, WIDTH), rtol=0, atol=0)


@pytest.mark.parametrize("correction", ["replace", "add"])
def test_or_the_policys_own_chunk_is_kept(correction: Any) -> None:
    kept = DeltaFlow(transformer(), delta(correction=correction, without_context="keep"))
    alone = FlowPolicy({"flow": transformer()}, seed=0).predict(input_data(), IDENTITY)
    with_it = FlowPolicy({"flow": kept}, seed=0)
    np.testing.assert_array_equal(with_it.predict(input_data(), IDENTITY), alone)
    told = with_it.predict(input_data(action_context=rows()), IDENTITY)
    assert np.abs(told - alone).max() > 1e-3


# --- through the flow policy


@pytest.mark.parametrize("steps", [1, 5, 20])
def test_a_replaced_chunk_is_the_experts_however_many_steps_there_are(steps: int) -> None:
    network = DeltaFlow(transformer(), delta())
    seen = input_data(action_context=rows())
    chunk = FlowPolicy({"flow": network}, num_inference_steps=steps).predict(seen, IDENTITY)
    wanted = network.encode({k: torch.from_numpy(v)[None] for k, v in seen.items()}).chunk
    assert wanted is not None
    np.testing.assert_allclose(chunk, wanted[0, :, :A].detach(), atol=1e-5)


def test_replacing_costs_the_policys_network_no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    network = DeltaFlow(transformer(), delta())
    monkeypatch.setattr(network.network, "velocity", None)
    FlowPolicy({"flow": network}).predict(input_data(action_context=rows()), IDENTITY)


def test_an_added_chunk_is_the_policys_own_with_the_delta() -> None:
    network = DeltaFlow(transformer(), delta(Steps(), correction="add"))
    seen = input_data(action_context=rows())
    added = FlowPolicy({"flow": network}, seed=0).predict(seen, IDENTITY)
    alone = FlowPolicy({"flow": transformer()}, seed=0).predict(input_data(), IDENTITY)
    np.testing.assert_allclose(added, alone + 5, atol=1e-6)


@pytest.mark.parametrize("correction", ["replace", "add"])
def test_the_prefix_is_encoded_once_a_chunk(correction: Any) -> None:
    network = DeltaFlow(transformer(), delta(correction=correction))
    leftover = {"prev_action": np.zeros((H, A), np.float32), "est_delay": 2}
    seen = input_data(action_context=rows(), **leftover)
    FlowPolicy({"flow": network}).guided_inference(seen, IDENTITY, 2, H)
    assert (network.network.prefixes, network.delta.expert.prefixes) == (1, 0)


def test_a_context_comes_in_robot_units_and_is_normalised() -> None:
    normalizer = Normalizer(Affine(np.zeros(S), np.ones(S)), Affine(np.ones(A), np.full(A, 2.0)))
    network = DeltaFlow(transformer(), delta())

    def chunk(value: float, using: Normalizer) -> Any:
        policy = FlowPolicy({"flow": network}, seed=0)
        return using.normalize_action(policy.predict(input_data(action_context=rows(value)), using))

    np.testing.assert_allclose(chunk(5.0, normalizer), chunk(2.0, IDENTITY), atol=1e-5)


def test_guidance_pulls_a_corrected_chunk_but_not_a_replaced_one() -> None:
    """A replaced chunk does not depend on x, so its derivative by x, which the pull goes through,
    is zero. With the identity in its place it is pulled."""
    leftover = np.full((H, A), 3.0, np.float32)

    def miss(correction: Any, **options: Any) -> float:
        policy = FlowPolicy(
            {"flow": DeltaFlow(transformer(), delta(correction=correction))}, seed=0
        )
        tied = {"prev_action": leftover, "est_delay": 3, "guidance": GuidanceOptions(**options)}
        seen = input_data(action_context=rows())
        free = policy.predict(dict(seen), IDENTITY)
        pulled = policy.guided_inference(seen | tied, IDENTITY, 2, H)
        return float(np.abs(pulled - leftover)[:3].mean() / np.abs(free - leftover)[:3].mean())

    assert miss("add") < 0.7
    assert miss("replace") == pytest.approx(1.0, abs=1e-5)
    assert miss("replace", vjp=False) < 0.7


def test_warm_up_runs_with_a_context_and_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cold chunk has none: what compiles then must not compile while the robot runs."""
    network = DeltaFlow(transformer(), delta(Steps(), without_context="keep"))
    had, encode = set(), network.encode
    monkeypatch.setattr(
        network, "encode", lambda seen: (had.add("action_context" in seen), encode(seen))[1]
    )
    FlowPolicy({"flow": network}).warmup()
    assert network.delta.expert.asked
    assert had == {True, False}


def test_a_clean_prefix_is_not_offered() -> None:
    """The expert moves every row, frozen ones too."""
    below = TwoWays(action_horizon=H, action_dim=WIDTH, row_times=True)
    network = DeltaFlow(below, delta(Steps()))
    assert "prefix" not in FlowPolicy({"flow": network}).modes


def test_encoding_with_the_expert_traces_into_one_graph() -> None:
    network = mixers().requires_grad_(False)
    network.delta.expert.head.weight.normal_()
    seen = observation()
    compiled = torch.compile(network.encode, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(seen), network.encode(seen))


# --- a second expert over a KV cache, as SmolVLA's


def test_a_second_expert_shares_the_vlm_and_nothing_else() -> None:
    network = transformer().requires_grad_(False)
    names = set(network.state_dict())
    expert: Any = second_expert(network, ["vlm", "vlm.layers"])
    assert expert.vlm is network.vlm
    assert set(network.state_dict()) == names
    assert {name.split(".")[0] for name in expert.state_dict()} == {"into", "queries", "out"}
    own = {id(p) for p in network.parameters()}
    assert not any(id(p) in own for p in expert.parameters())
    assert all(p.requires_grad for p in expert.parameters())
    assert not any(p.requires_grad for p in network.parameters())
    cache, x, tau = network.encode(observation()), torch.randn(B, H, WIDTH), torch.rand(B)
    torch.testing.assert_close(expert.velocity(cache, x, tau), network.velocity(cache, x, tau))


def test_a_part_that_there_is_not_cannot_be_shared() -> None:
    with pytest.raises(ConfigError, match=r"cannot share 'vlm.eyes' with PrefixTransformer"):
        second_expert(transformer(), ["vlm.eyes"])


@pytest.mark.parametrize("correction", ["replace", "add"])
def test_the_cache_stays_as_the_prefix_left_it(correction: Any) -> None:
    network = DeltaFlow(transformer(), delta(correction=correction))
    context = network.encode(observation())
    again = network.network.encode(observation())
    network.finish(context, torch.randn(B, H, WIDTH))
    torch.testing.assert_close(context.prefix, again, rtol=0, atol=0)


# --- training


@pytest.mark.parametrize("correction", ["replace", "add"])
def test_only_the_expert_and_its_encoder_learn(correction: Any) -> None:
    base = transformer()
    network = DeltaFlow(
        base,
        DeltaExpert(
            second_expert(base, ["vlm"]), action_dim=WIDTH, action_horizon=H, correction=correction
        ),
    )
    batch = observation(context=False) | {"action": torch.randn(B, H, A)}
    loss, parts = network.forward_delta_expert(batch, torch.randn(B, N, A))
    torch.autograd.backward(loss)
    assert parts["loss"] == pytest.approx(loss.item())
    learning = {name for name, p in network.named_parameters() if p.grad is not None}
    assert learning == {name for name, p in network.named_parameters() if p.requires_grad}
    assert {name.rpartition(".")[0] for name in learning} == {
        "delta.encoder.rows.0",
        "delta.encoder.rows.2",
        "delta.expert.into",
        "delta.expert.queries.0",
        "delta.expert.queries.1",
        "delta.expert.out",
    }


def test_without_a_context_the_encoder_learns_nothing() -> None:
    network = DeltaFlow(transformer(), delta())
    loss, _ = network.forward_delta_expert(
        observation(context=False) | {"action": torch.zeros(B, H, A)}
    )
    torch.autograd.backward(loss)
    assert all(p.grad is None for p in network.delta.encoder.parameters())


def test_an_earlier_encoding_will_do() -> None:
    network = DeltaFlow(transformer(), delta())
    seen, action = observation(context=False), torch.randn(B, H, A)
    prefix = network.network.encode(seen)
    with_prefix, _ = network.forward_delta_expert({"prefix": prefix, "action": action})
    without, _ = network.forward_delta_expert(seen | {"action": action})
    assert network.network.prefixes == 2
    torch.testing.assert_close(with_prefix, without)


def test_the_loss_is_the_mean_square_of_what_was_recorded() -> None:
    chunk = torch.zeros(1, 4, 3)
    actions = torch.tensor([[[1.0, 1.0], [2.0, 2.0], [3.0, 3.0], [99.0, 99.0]]])
    is_pad = torch.tensor([[False, False, False, True]])
    loss, parts = delta_loss(chunk, actions, 2, is_pad)
    assert loss.item() == pytest.approx((1 + 4 + 9) / 3)
    assert parts == pytest.approx({"loss": 14 / 3, "context": 2.5, "rest": 9.0})


def test_trained_with_a_context_it_knows_which_way_was_taken() -> None:
    """Two ways, told apart by the context alone: with it the expert follows the one, without it
    it can only answer their mean, which is neither."""
    network = mixers()
    optimizer = torch.optim.Adam(network.delta.parameters(), 1e-2)
    ramp = torch.linspace(0, 1, 10)[:, None].expand(10, A)

    def draw() -> tuple[dict[str, Any], Tensor]:
        side = torch.randint(0, 2, (32, 1, 1)) * 2.0 - 1
        action = side * ramp
        return {"proprio": torch.randn(32, 1, S), "action": action}, action[:, :N]

    for step in range(100):
        batch, context = draw()
        loss, _ = network.forward_delta_expert(batch, None if step % 5 == 0 else context)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    batch, context = draw()
    told = network.forward_delta_expert(batch, context)[1]["loss"]
    untold = network.forward_delta_expert(batch)[1]["loss"]
    assert told < 0.02
    assert untold > 0.3  # the mean of both ways: a third of a square of the ramp


# --- what can be wrong


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"correction": "mix"}, "correction: expected replace or add, got 'mix'"),
        ({"without_context": "hold"}, "without_context: expected zeros or keep, got 'hold'"),
        ({"context_rows": 0}, "context_rows: expected at least 1, got 0"),
    ],
)
def test_an_unknown_option_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        delta(**options)


def test_an_expert_of_another_shape_is_refused() -> None:
    expert = DeltaExpert(Steps(), action_dim=A, action_horizon=H)
    with pytest.raises(PolicyError, match=r"chunks of \(8, 2\), but .* are \(8, 6\)"):
        DeltaFlow(transformer(), expert)


def test_a_policy_without_its_delta_component_is_refused() -> None:
    with pytest.raises(PolicyError, match=r"components flow, .* got flow \(Steps\)"):
        DeltaFlowPolicy({"flow": Steps()})
    with pytest.raises(PolicyError, match=r"'flow' \(Steps\) is no flow network: it lacks"):
        DeltaFlowPolicy({"flow": Steps(), "delta": delta()})


def test_a_delta_policy_runs_as_many_steps_as_its_network_says() -> None:
    expert = Steps()
    network: Any = transformer()
    network.num_inference_steps, network.velocity = 3, expert.velocity
    policy = DeltaFlowPolicy({"flow": network, "delta": delta(correction="add")})
    policy.predict(input_data(action_context=rows()), IDENTITY)
    assert len(expert.asked) == 3


# --- what is shipped


def test_the_yaml_takes_a_flow_policys_keywords_and_no_other() -> None:
    assert inspect.signature(DeltaFlowPolicy) == inspect.signature(FlowPolicy)


def test_the_shipped_expert_follows_whichever_way_is_under_way() -> None:
    """In a scene of neither training: told five rows of the demonstrator's way round the post, the
    policy goes on with that one, left or right."""
    pytest.importorskip("mujoco", reason="needs the extra: pip install 'rt[sim]'")
    pytest.importorskip("cv2", reason="needs the extra: pip install 'rt[sim]'")
    from rt.robots.sim.demos import RIGHT_ARM, Planner
    from rt.robots.sim.painter import Painter
    from rt.robots.sim.world import World

    policy: Any = build_policy(POLICY)
    stats = POLICY.parents[1] / "flow_demo" / "norm_stats.json"
    normalizer = Normalizer.load(stats, 24, 24)
    world, planner, painter = World(6_000_000), Planner(), Painter(320, 240)
    start, row, chunks = world.position, 8, []
    for side in (-1, 1):
        plan = planner.plan(start, world.target, world.post, side, row + 50)
        world.place(plan[row - 1])
        seen: dict[str, Any] = {"proprio": world.position[None].astype(np.float32)}
        for camera in ("head", "left", "right"):
            seen[camera] = np.empty((1, 3, 240, 320), np.uint8)
            painter.paint(world, camera, seen[camera][0])
        seen["action_context"] = plan[row : row + policy.action_context_size].astype(np.float32)
        chunks.append(policy.predict(seen, normalizer)[:, RIGHT_ARM])
        error = np.degrees(chunks[-1] - plan[row:, RIGHT_ARM])
        assert np.sqrt(np.square(error).mean()) < 1.5
    assert np.degrees(np.abs(chunks[0] - chunks[1])).max() > 10.0

"""The demonstration policy's network: shapes, derivatives, size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from rt.errors import ConfigError
from rt.infer.policies.flow_model import MIN_REMAINING, FlowModel

B, H, A = 2, 50, 24
COMPONENT = (
    Path(__file__).parents[1] / "configs" / "policies" / "flow_demo" / "components" / "flow.yaml"
)


@pytest.fixture(scope="module")
def params() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPONENT.read_text())["params"]
    return found


@pytest.fixture(scope="module")
def model(params: dict[str, Any]) -> FlowModel:
    """The shipped network, with random weights, none of them zero."""
    torch.manual_seed(0)
    network = FlowModel(**params)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.02)
    return network.requires_grad_(False)


def observation(model: FlowModel, height: int = 240, width: int = 320) -> dict[str, Tensor]:
    seeded = torch.Generator().manual_seed(1)
    views = {
        name: torch.randint(0, 256, (B, 1, 3, height, width), dtype=torch.uint8, generator=seeded)
        for name in model.camera_names
    }
    return {"proprio": torch.randn(B, 1, A, generator=seeded), **views}


def noise() -> Tensor:
    return torch.randn(B, H, A, generator=torch.Generator().manual_seed(2))


def test_shapes_and_attributes_are_those_that_a_flow_policy_asks_for(model: FlowModel) -> None:
    assert (model.action_horizon, model.action_dim, model.state_dim) == (H, A, 24)
    context = model.encode(observation(model))
    velocity = model.velocity(context, noise(), torch.tensor([0.0, 0.6]))
    assert velocity.shape == (B, H, A)
    assert velocity.dtype == torch.float32
    assert torch.isfinite(velocity).all()


def test_a_batch_is_its_items(model: FlowModel) -> None:
    seen, x, tau = observation(model), noise(), torch.tensor([0.2, 0.8])
    together = model.velocity(model.encode(seen), x, tau)
    for i in range(B):
        alone = {name: value[i : i + 1] for name, value in seen.items()}
        velocity = model.velocity(model.encode(alone), x[i : i + 1], tau[i : i + 1])
        torch.testing.assert_close(velocity[0], together[i], rtol=1e-4, atol=1e-4)


def test_every_camera_the_state_the_noise_and_tau_matter(model: FlowModel) -> None:
    seen, x, tau = observation(model), noise(), torch.tensor([0.4, 0.4])

    def velocity(**changed: Tensor) -> Tensor:
        return model.velocity(model.encode(seen | changed), x, tau)

    usual = velocity()
    assert not torch.equal(usual, velocity(proprio=seen["proprio"] + 0.1))
    for name in model.camera_names:
        assert not torch.equal(usual, velocity(**{name: seen[name].flip(-1)}))
    context = model.encode(seen)
    assert not torch.equal(usual, model.velocity(context, x + 0.1, tau))
    assert not torch.allclose(
        model.clean(context, x, tau), model.clean(context, x, torch.tensor([0.8, 0.8]))
    )


def test_only_the_newest_proprio_is_used(model: FlowModel) -> None:
    seen = observation(model)
    older = torch.cat([torch.full((B, 3, 24), 9.0), seen["proprio"]], dim=1)
    torch.testing.assert_close(model.encode(seen), model.encode(seen | {"proprio": older}))


def test_images_of_the_camera_s_size_and_already_shrunk_ones_are_the_same(
    model: FlowModel,
) -> None:
    large, small = observation(model), observation(model)
    for name in model.camera_names:
        blocks = large[name].view(B, 1, 3, 60, 4, 80, 4)
        large[name] = blocks[..., :1, :, :1].expand_as(blocks).flatten(-2).flatten(-3, -2)
        small[name] = blocks[..., 0, :, 0]
    torch.testing.assert_close(model.encode(large), model.encode(small))


def test_the_velocity_leads_to_the_clean_chunk(model: FlowModel) -> None:
    """x + (1 - tau) v is x1, whatever tau is; near tau = 1 the velocity stays finite."""
    context, x = model.encode(observation(model)), noise()
    for tau in (0.0, 0.4, 0.8):
        times = torch.full((B,), tau)
        reached = x + (1 - tau) * model.velocity(context, x, times)
        torch.testing.assert_close(reached, model.clean(context, x, times))
    last = model.velocity(context, x, torch.ones(B))
    torch.testing.assert_close(last, (model.clean(context, x, torch.ones(B)) - x) / MIN_REMAINING)


def test_the_vjp_is_the_derivative_also_under_inference_mode() -> None:
    """Against central differences, in float64."""
    double = FlowModel(**SMALL).double().requires_grad_(False)
    torch.manual_seed(3)
    with torch.no_grad():
        for weight in double.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.1)
    tau, context = torch.full((1,), 0.4).double(), torch.randn(1, 128).double()
    x, direction, cotangent = torch.randn(3, 1, 10, 2).double().unbind()

    def velocity(x: Tensor) -> Tensor:
        return double.velocity(context, x, tau)

    with torch.inference_mode():
        _, pull_back = torch.func.vjp(velocity, x)  # type: ignore[misc]
        (pulled,) = pull_back(cotangent)
        difference = (velocity(x + 1e-5 * direction) - velocity(x - 1e-5 * direction)) / 2e-5
    assert (pulled * direction).sum().item() == pytest.approx(
        (cotangent * difference).sum().item(), rel=1e-5
    )


def test_it_traces_into_one_graph(model: FlowModel) -> None:
    context, x, tau = model.encode(observation(model)), noise(), torch.tensor([0.2, 0.2])
    compiled = torch.compile(model.velocity, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(context, x, tau), model.velocity(context, x, tau))


def test_a_checkpoint_stays_small_enough_for_the_repository(model: FlowModel) -> None:
    assert sum(weight.numel() for weight in model.parameters()) * 4 < 5e6


def test_tokens_must_divide_the_horizon() -> None:
    with pytest.raises(ConfigError, match="action_horizon 10 is not a multiple of rows_per_token"):
        FlowModel(**SMALL | {"rows_per_token": 3})


SMALL: dict[str, Any] = {
    "state_dim": 3,
    "action_dim": 2,
    "action_horizon": 10,
    "camera_names": ["head"],
    "width": 16,
    "depth": 2,
}

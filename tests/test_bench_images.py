"""The peers and sets of the bench of images: three Deep SVDDs, and counts that are told as they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn")

from ocsdf3d.bench import data_folder, deepsvdd
from ocsdf3d.bench.deepsvdd import NETWORKS, DeepSVDD
from ocsdf3d.bench.image_sets import SETS, dataset
from ocsdf3d.bench.images import _spread
from ocsdf3d.query import value_and_gradient

SHAPE = (12, 12, 1)


def stripes(n: int, *, upright: bool, seed: int = 0) -> torch.Tensor:
    """Rows of images of one bright stripe each."""
    rng = np.random.default_rng(seed)
    out = rng.uniform(0.0, 0.1, (n, *SHAPE[:2]))
    for image, place in zip(out, rng.integers(0, SHAPE[1] - 1, n), strict=True):
        image[:, place : place + 2] += 0.8
    rows = (out if upright else out.transpose(0, 2, 1)).reshape(n, -1)
    return torch.as_tensor(rows, dtype=torch.float32)


@pytest.mark.parametrize("network", NETWORKS)
def test_it_tells_what_it_learnt_and_has_a_gradient(network: str) -> None:
    learnt = stripes(400, upright=True)
    model = DeepSVDD(SHAPE, 0, network=network).learn(learnt, 40)
    own, others = stripes(50, upright=True, seed=1), stripes(50, upright=False, seed=2)
    assert float((model(own)[:, None] > model(others)).float().mean()) > 0.8
    again = DeepSVDD(SHAPE, 0, network=network).learn(learnt, 40)
    torch.testing.assert_close(again(own), model(own))
    gradient = value_and_gradient(model, own)[1]
    assert gradient.isfinite().all()
    step = 1e-3 * gradient / gradient.norm(dim=1, keepdim=True)
    assert float((model(own + step) > model(own)).float().mean()) > 0.9


@pytest.mark.parametrize("channels", [1, 3])
def test_the_first_convolution_is_pooled_as_it_is_made(channels: int) -> None:
    """Another route to the same numbers, and to their gradients in the image."""
    x = torch.rand((5, channels, 8, 6), generator=torch.Generator().manual_seed(0))
    convolution = torch.nn.Conv2d(channels, 7, deepsvdd.KERNEL, padding=2, bias=False)
    one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    plain = torch.nn.functional.max_pool2d(convolution(one), 2)
    found = deepsvdd._pooled(other, convolution)
    torch.testing.assert_close(found, plain)
    for value, begin in ((plain, one), (found, other)):
        value.square().sum().backward()
        assert begin.grad is not None
    torch.testing.assert_close(other.grad, one.grad)


def test_odd_images_and_even_ones_are_learnt_and_scored() -> None:
    for shape in ((9, 8, 3), (8, 8, 3)):
        rows = torch.rand((20, shape[0] * shape[1] * 3), generator=torch.Generator().manual_seed(0))
        model = DeepSVDD(shape, 0).learn(rows, 1)
        assert model(rows).isfinite().all()
        torch.testing.assert_close(model(rows[:3]), model(rows)[:3], rtol=1e-4, atol=1e-4)


def test_our_network_without_its_constraint_is_not_lipschitz_and_has_no_biases() -> None:
    learnt = stripes(200, upright=True)
    model = DeepSVDD(SHAPE, 0, network="ours").learn(learnt, 10)
    network = model.trunk.network
    assert float(torch.linalg.matrix_norm(network.entry, 2)) > 1.05
    assert all(not value.any() for name, value in network.named_parameters() if name.startswith("biases"))
    assert model.trunk(learnt).shape == (200, 32)
    assert model.trunk(torch.zeros((1, 144))).abs().max() == 0.0


def test_what_it_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="`network` must be one of lenet_bn, lenet, ours; got 'vgg'"):
        DeepSVDD(SHAPE, 0, network="vgg")
    with pytest.raises(ValueError, match="at least 8 pixels high"):
        DeepSVDD((7, 9, 3), 0)


def test_contrast_is_that_of_the_image_alone() -> None:
    x = torch.rand((3, 30))
    torch.testing.assert_close(deepsvdd._contrast(0.3 * x + 0.2), deepsvdd._contrast(x))
    assert deepsvdd._contrast(torch.ones((1, 30))).isfinite().all()


def test_images_to_attack_are_of_all_classes_though_these_come_in_order() -> None:
    places = np.arange(1000)
    assert _spread(places, 10).tolist() == list(range(0, 1000, 100))
    assert _spread(places, 2000) is places


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        ("mnist", (28, 28, 1), "5,421 to 6,742 to learn of each class; to test 892 to 1,135 of it"),
        (
            "fashion",
            (28, 28, 1),
            "2,000 to learn of each class; to test 500 of it against 4,500 others; a part",
        ),
        (
            "cifar10",
            (32, 32, 3),
            "1,000 to learn of each class; to test 200 of it against 1,800 others; a part",
        ),
    ],
)
def test_the_sets_are_counted(name: str, shape: tuple[int, int, int], said: str) -> None:
    try:
        folder = data_folder()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    if not (folder / "images" / SETS[name]).exists():
        pytest.skip(f"no {SETS[name]} in {folder / 'images'}")
    found = dataset(name)
    assert found.shape == shape
    assert said in found.counted()
    assert len(found.classes) == 10
    assert ("a part of the set" in found.counted()) == (name != "mnist")
    if name == "cifar10":
        assert "1000 of the 2000 test images from its test half" in found.counted()

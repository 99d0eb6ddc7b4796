"""The detector of images: what it finds, what it proves, its file, its pictures, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn")
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from ocsdf3d import images as package
from ocsdf3d.container import CheckpointError, seal, unseal
from ocsdf3d.images import OneClassImageSDF, estimator, heat_map, load, save, synthesize
from ocsdf3d.images.estimator import CONVOLUTIONAL, PRESETS, network_of, pixels_of
from ocsdf3d.images.synthesis import STARTS, walked
from ocsdf3d.lipschitz.certificate import CertificateError
from ocsdf3d.lipschitz.convolution import ConvolutionalNetwork
from ocsdf3d.oneclass import attacked_scores, auroc

SIDE = 10


def bars(n: int, *, upright: bool, seed: int = 0) -> np.ndarray:
    """Images of one bar each, 2 wide, somewhere, upright or lying, on a dark ground with some grain."""
    rng = np.random.default_rng(seed)
    out = rng.integers(0, 30, (n, SIDE, SIDE))
    for image, place in zip(out, rng.integers(0, SIDE - 1, n), strict=True):
        image[:, place : place + 2] += 200
    return (out if upright else out.transpose(0, 2, 1)).astype(np.uint8)


def fitted(**options: Any) -> OneClassImageSDF:
    return OneClassImageSDF(**{"steps": 60, "random_state": 0, **options}).fit(bars(200, upright=True))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The paper's network, of the same kinds but few channels: two million weights take their time here."""
    stages = {"stages": ((1, 8, 2), (2, 12, 2))}
    monkeypatch.setitem(CONVOLUTIONAL, "paper", {**CONVOLUTIONAL["paper"], **stages})


@pytest.fixture(scope="module")
def detector() -> OneClassImageSDF:
    return fitted()


@pytest.fixture(scope="module")
def judged() -> tuple[np.ndarray, np.ndarray]:
    found = np.concatenate([bars(60, upright=True, seed=1), bars(60, upright=False, seed=2)])
    return found, np.repeat([1, -1], 60)


# --- what it finds


def test_it_tells_upright_bars_from_lying_ones_without_having_seen_any(
    detector: OneClassImageSDF, judged: Any
) -> None:
    X, y = judged
    scores = detector.score_samples(X)
    assert auroc(scores[y == 1], scores[y == -1]) > 0.99
    assert (detector.predict(X) == y).mean() > 0.95
    assert detector.history_["curves"]["gradient_norm"][-1] > 0.8


def test_pixels_mean_the_same_in_bytes_and_in_floats(detector: OneClassImageSDF, judged: Any) -> None:
    X, _ = judged
    whole = detector.score_samples(X)
    np.testing.assert_array_equal(detector.score_samples(X / 255.0), whole)
    np.testing.assert_allclose(detector.score_samples((X / 255.0).astype(np.float32)), whole, atol=1e-4)
    np.testing.assert_array_equal(detector.score_samples(X[:3]), whole[:3])


def test_same_seed_same_scores(detector: OneClassImageSDF, judged: Any) -> None:
    X, _ = judged
    again = clone(detector).fit(bars(200, upright=True))
    np.testing.assert_array_equal(again.score_samples(X), detector.score_samples(X))
    assert np.abs(fitted(random_state=1).score_samples(X) - detector.score_samples(X)).max() > 1e-3


@pytest.mark.usefixtures("small")
def test_colour_and_odd_sizes_are_learnt_by_every_preset() -> None:
    X = np.random.default_rng(0).uniform(size=(20, 7, 6, 3))
    for preset in PRESETS:
        found = OneClassImageSDF(preset, steps=2, random_state=0).fit(X)
        assert found.score_samples(X).shape == (20,)
        assert found.network_.config.inputs == 7 * 6 * 3
        assert found.certificate_.lipschitz <= 1.0
        assert isinstance(found.network_, ConvolutionalNetwork) == (preset != "cpu")


def test_the_papers_network_has_the_papers_size() -> None:
    """2,103,617 parameters at one channel, derived from table 6."""
    made = network_of("paper", (28, 28, 1), torch.Generator().manual_seed(0))
    assert sum(parameter.numel() for parameter in made.parameters()) == 2_103_617


def test_the_papers_margin_is_half_of_that_on_twice_the_range_and_its_epochs_are_counted() -> None:
    found = OneClassImageSDF("paper")
    found.n_features_in_, found.unit_ = 784, 3.0
    found.margin_ = found._margin()
    assert found.margin_ == pytest.approx(0.792 / 2.0, abs=1e-4)
    config = found._config(6000)
    assert (config.steps, config.warm) == (70 * 47, 10 * 47)
    assert config.margin == pytest.approx(found.margin_ / 3.0)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("preset", "shares"), [("cpu", (0.0, 0.5, 1.0)), ("paper", (0.0, 1.0))])
def test_walks_in_half_precision_end_elsewhere_but_prove_as_much(
    preset: str, shares: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same code on a CPU; whatever the negatives, weights and scores stay float32."""
    walk = replace(PRESETS["paper"].walk, steps=4)
    monkeypatch.setattr(estimator, "EPOCHS", (3, 0))  # else nothing walks yet
    scores = []
    for half in shares:
        monkeypatch.setitem(PRESETS, preset, replace(PRESETS[preset], walk=walk, half=half, batch=16))
        found = OneClassImageSDF(preset, steps=2, negatives="noise", random_state=0)
        found.fit(bars(40, upright=True))
        assert found.certificate_.lipschitz <= 1.0
        assert all(weight.dtype == torch.float32 for weight in found.network_.parameters())
        scores.append(found.score_samples(bars(20, upright=False)))
    for one, other in pairwise(scores):
        assert 0.0 < np.abs(one - other).max() < 0.05 * found.unit_  # of the spread of images


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        ({"margin": 0.3}, lambda d: d.margin_ == 0.3),
        ({"lam": 40.0}, lambda d: d.history_["curves"]["lam"][-1] > 30.0),
        ({"steps": 7}, lambda d: d.n_iter_ == 7),
        ({"negatives": "corners"}, lambda d: d.kinds() == ("corners",)),
        ({"contamination": 0.25}, lambda d: (d.predict(bars(200, upright=True)) == -1).mean() == 0.25),
    ],
)
def test_every_option_acts(options: dict[str, Any], seen: Any) -> None:
    assert seen(fitted(**options))


# --- what it proves


def test_attacked_lies_between_certified_and_clean(detector: OneClassImageSDF, judged: Any) -> None:
    X, y = judged
    scores = detector.score_samples(X)
    clean = auroc(scores[y == 1], scores[y == -1])
    for radius in (36 / 255, 1.0):
        certified = float(detector.certify(X, y, [radius])[0])
        for box in (None, detector.box()):
            worst = attacked_scores(detector, X, y, radius, steps=10, restarts=1, box=box)
            assert certified <= auroc(worst[y == 1], worst[y == -1]) <= clean
            assert np.abs(worst - scores).max() <= radius + 1e-4
    free, held = (
        attacked_scores(detector, X, y, 1.0, steps=10, restarts=0, box=box) for box in (None, detector.box())
    )
    assert (y * held).mean() > (y * free).mean()  # fewer images can be reached


def test_radii_are_in_pixels_of_unit_range(detector: OneClassImageSDF, judged: Any) -> None:
    """No move of a certified length changes a decision, and in the worst direction f moves by half of it."""
    X, _ = judged
    radii = detector.certified_radius(X)
    assert (radii <= np.abs(detector.decision_function(X))).all()
    assert radii.max() > 0.3
    rng = np.random.default_rng(0)
    away = rng.normal(size=X.shape)
    away /= np.sqrt((away**2).sum(axis=(1, 2)))[:, None, None]
    moved = np.clip(X / 255.0 + radii[:, None, None] * away, 0.0, 1.0)
    certain = radii > 0.0
    np.testing.assert_array_equal(detector.predict(moved)[certain], detector.predict(X)[certain])
    begin = X / 255.0
    goal = walked(detector, begin, level=5.0, steps=1, multiplier=0.05)
    gain = detector.score_samples(goal) - detector.score_samples(begin)
    length = np.sqrt(((goal - begin) ** 2).sum(axis=(1, 2)))
    assert (gain <= length + 1e-4).all()
    assert np.median(gain / length) > 0.5  # no bound of any size


@pytest.mark.parametrize("n", [2, 3, 5, 7])
def test_images_that_are_all_the_same_have_the_unit_of_pixels(n: int) -> None:
    found = OneClassImageSDF(steps=5, random_state=0).fit(np.full((n, 8, 8), 0.1))
    assert found.unit_ == 1.0
    assert (found.certified_radius(np.full((1, 8, 8), 0.1)) > 1e-3).all()


def test_scores_of_images_are_as_precise_under_autocast(detector: OneClassImageSDF, judged: Any) -> None:
    scores = detector.score_samples(judged[0])
    with torch.autocast("cpu"):
        np.testing.assert_array_equal(detector.score_samples(judged[0]), scores)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_default_dtype_of_torch_changes_nothing(preset: str, small: None) -> None:
    plain = fitted(preset=preset, steps=2)
    torch.set_default_dtype(torch.float64)
    try:
        again = fitted(preset=preset, steps=2)
        images = bars(3, upright=True)
        np.testing.assert_array_equal(again.score_samples(images), plain.score_samples(images))
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_refit_that_is_interrupted_leaves_no_detector() -> None:
    found = fitted(steps=2)

    def stop_here(*_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        found.set_params(progress=stop_here).fit(bars(50, upright=False))
    with pytest.raises(NotFittedError):
        found.certified_radius(bars(3, upright=True))


def test_altered_weights_are_not_certified(judged: Any) -> None:
    X, y = judged
    found = fitted(steps=2)
    with torch.no_grad():
        found.network_.offset.add_(1.0)
    with pytest.raises(CertificateError, match="not those of the certificate"):
        found.certify(X, y, [0.1])


def test_what_was_learnt_until_a_stop_is_certified(judged: Any, tmp_path: Path) -> None:
    X, y = judged
    asked = iter([False, True])
    found = OneClassImageSDF(steps=1000, random_state=0).fit(bars(50, upright=True), stop=lambda: next(asked))
    assert found.n_iter_ == 2 * PRESETS["cpu"].report
    assert found.history_["interrupted"]
    assert found.certificate_.lipschitz <= 1.0
    again = load(save(tmp_path / "bars.safetensors", found))
    np.testing.assert_array_equal(again.certify(X, y, [0.1]), found.certify(X, y, [0.1]))
    assert again.history_["interrupted"]
    assert not fitted(steps=2).history_["interrupted"]


# --- its file


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("preset", PRESETS)
def test_a_saved_detector_scores_alike(preset: str, judged: Any, tmp_path: Path) -> None:
    X, y = judged
    found = fitted(preset=preset, steps=2, negatives=("noise", "uniform"), contamination=0.1)
    again = load(save(tmp_path / "bars.safetensors", found))
    np.testing.assert_array_equal(again.decision_function(X), found.decision_function(X))
    np.testing.assert_array_equal(again.certify(X, y, [0.1]), found.certify(X, y, [0.1]))
    assert again.get_params() == {**found.get_params(), "negatives": ["noise", "uniform"]}
    assert (again.shape_, again.level_) == ((SIDE, SIDE), found.level_)
    assert again.history_ == found.history_


def test_parameters_come_back_whatever_their_numbers_are_of(tmp_path: Path) -> None:
    """NumPy's whole numbers, as a loop over an array gives them, were left out of the file."""
    given = {"steps": np.int64(2), "random_state": np.int64(5), "margin": np.float64(1.5)}
    again = load(save(tmp_path / "bars.safetensors", fitted(**given)))
    assert {name: again.get_params()[name] for name in given} == given


def test_an_altered_or_foreign_file_is_refused(detector: OneClassImageSDF, tmp_path: Path) -> None:
    path = save(tmp_path / "bars.safetensors", detector)
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    (tmp_path / "altered.safetensors").write_bytes(data)
    with pytest.raises(CheckpointError, match="altered"):
        load(tmp_path / "altered.safetensors")
    from ocsdf3d.oneclass import load as load_table

    with pytest.raises(CheckpointError, match=r"image-detector.*ocsdf3d\.images\.load"):
        load_table(path)


@pytest.mark.usefixtures("small")
def test_a_file_that_claims_more_than_it_holds_is_refused_before_that_is_made(tmp_path: Path) -> None:
    path = save(tmp_path / "bars.safetensors", fitted(preset="conv", steps=1))
    sealed = unseal(path, "image-detector", 1)
    header, given = sealed.header, sealed.header["network"]
    (stride, own, depth), *rest = given["stages"]
    for changed in (
        {"stages": [[stride, own, 10**12], *rest]},
        {"stages": [[stride, 10**6, depth], *rest]},
        {"stages": [[10**9, own, depth], *rest]},
        {"stages": [[10**9, 1, 1]]},
        {"stages": [[1, 10**300, 1]]},
        {"stages": [[1, 1, 1]], "height": 10**9},  # the head weighs every place
        {"mixing": "patches", "stages": [[1, 10**4, 10**4]]},
    ):
        forged = {**header, "network": {**given, **changed}}
        seal(path, "image-detector", 1, forged, sealed.tensors)
        with pytest.raises(CheckpointError, match=r"more weights than the \d+ in the file"):
            load(path)
    seal(path, "image-detector", 1, header, sealed.tensors)
    load(path)


# --- its training on disk


def part(kept: Path, **options: Any) -> OneClassImageSDF:
    """A training that ends at its first report."""
    asked = OneClassImageSDF(**{"steps": 60, "random_state": 0, **options})
    return asked.fit(bars(200, upright=True), checkpoint=kept, stop=lambda: True)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("preset", ["cpu", "paper"])
def test_a_training_goes_on_to_the_same_end(
    preset: str, tmp_path: Path, judged: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, X, begun = tmp_path / "kept.safetensors", bars(200, upright=True), {"preset": preset}
    if preset == "paper":  # RMSprop and walks, and a report, so that a file, every five steps
        monkeypatch.setitem(PRESETS, preset, replace(PRESETS[preset], report=5))
        begun["steps"] = 12
    whole = fitted(**begun)
    assert part(kept, **begun).n_iter_ < whole.n_iter_
    found = clone(whole).fit(X, checkpoint=kept, resume=True)
    assert found.certificate_.hash == whole.certificate_.hash
    assert found.history_["curves"] == whole.history_["curves"]
    np.testing.assert_array_equal(found.score_samples(judged[0]), whole.score_samples(judged[0]))
    assert found.history_["resumed"] < whole.n_iter_ == found.n_iter_
    save(tmp_path / "d.safetensors", found)
    assert load(tmp_path / "d.safetensors").history_["resumed"] == found.history_["resumed"]
    again = clone(whole).fit(X, checkpoint=kept, resume=True)  # of a training that is done
    assert (again.certificate_.hash, again.history_["resumed"]) == (whole.certificate_.hash, whole.n_iter_)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"random_state": 1}, "a training of `seed`"),
        ({"steps": 70}, "a training of `steps` 60, not 70"),
        ({"margin": 0.5}, "a training of `margin`"),
        ({"negatives": "noise"}, "a training of `negatives`"),
        ({"preset": "conv"}, "a training of `preset` 'cpu', not 'conv'"),
    ],
)
def test_another_training_is_refused(changes: dict[str, Any], match: str, tmp_path: Path) -> None:
    kept = tmp_path / "kept.safetensors"
    part(kept)
    content, asked = kept.read_bytes(), {"steps": 60, "random_state": 0, **changes}
    with pytest.raises(CheckpointError, match=match):
        OneClassImageSDF(**asked).fit(bars(200, upright=True), checkpoint=kept, resume=True)
    with pytest.raises(CheckpointError, match="a training of another input"):
        OneClassImageSDF(steps=60, random_state=0).fit(bars(201, upright=True), checkpoint=kept, resume=True)
    assert kept.read_bytes() == content


def test_what_cannot_go_on_is_not_kept(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`resume` needs a `checkpoint`"):
        OneClassImageSDF(random_state=0).fit(bars(20, upright=True), resume=True)
    for state in (None, np.random.RandomState(0)):
        with pytest.raises(ValueError, match="`random_state` must be an int where there is a `checkpoint`"):
            OneClassImageSDF(random_state=state).fit(bars(20, upright=True), checkpoint=tmp_path / "k")
    assert not list(tmp_path.iterdir())


# --- its pictures


@pytest.mark.parametrize("start", STARTS)
def test_synthesis_ends_at_the_mean_score(start: str, detector: OneClassImageSDF) -> None:
    made = synthesize(detector, 5, start=start, random_state=0)
    assert made.shape == (5, SIDE, SIDE)
    assert made.min() >= 0.0
    assert made.max() <= 1.0
    before = detector.score_samples(synthesize(detector, 5, start=start, level=-99.0, random_state=0))
    after = detector.score_samples(made)
    assert (after > before).all()
    # most of the way: what pixels cannot do that are black or white already is missing
    assert (np.abs(after - detector.level_) < 0.3 * np.abs(before - detector.level_)).all()
    np.testing.assert_array_equal(made, synthesize(detector, 5, start=start, random_state=0))
    higher = synthesize(detector, 5, start=start, level=2.0, random_state=0)
    assert detector.score_samples(higher).mean() > after.mean()


def test_heat_is_where_a_foreign_part_is(detector: OneClassImageSDF) -> None:
    X = bars(20, upright=True, seed=3)
    X[:, 4:6] = 230  # a lying bar across
    heat = heat_map(detector, X)
    assert heat.shape == X.shape
    inside, outside = np.abs(heat[:, 4:6]).mean(), np.abs(np.delete(heat, (4, 5), axis=1)).mean()
    assert inside > 2.0 * outside
    assert heat[:, 4:6].mean() < 0.0  # too bright


# --- what it refuses


@pytest.mark.parametrize(
    ("X", "said"),
    [
        (np.zeros((5, 4)), r"images, \(n, h, w\) or \(n, h, w, c\); got shape \(5, 4\)"),
        (np.zeros((0, 4, 4)), "at least 2 images; got 0"),
        (np.zeros((1, 4, 4)), "at least 2 images; got 1"),
        (np.zeros((5, 4, 4, 2)), r"1, 3 or 4 channels, last; got shape \(5, 4, 4, 2\)"),
        (np.zeros((5, 3, 4, 9)), "Channels come first here"),
        (np.zeros((5, 4, 4), np.int64), "uint8, or floating in .0, 1.; got int64"),
        (np.full((5, 4, 4), 200.0), r"must lie in \[0, 1\].*divide by 255"),
        (np.where(np.arange(5)[:, None, None] == 3, np.nan, np.zeros((5, 4, 4))), "image 3 holds NaN"),
    ],
)
def test_what_are_no_images_is_refused(X: np.ndarray, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        OneClassImageSDF().fit(X)


def test_other_images_than_those_of_fit_are_refused(detector: OneClassImageSDF) -> None:
    with pytest.raises(ValueError, match="images of 10 × 10, as fit had; got 10 × 10 × 3"):
        detector.score_samples(np.zeros((2, SIDE, SIDE, 3)))
    assert pixels_of(torch.zeros((2, 3, 3))).shape == (2, 3, 3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"preset": "huge"}, "`preset` must be one of cpu, conv, paper; got 'huge'"),
        ({"margin": -1.0}, "`margin` must be"),
        ({"steps": 0}, "`steps` must be"),
        ({"negatives": ("uniform", "cats")}, "`negatives` must be auto or some of uniform"),
        ({"negatives": ()}, "`negatives` must be"),
    ],
)
def test_options_that_are_none_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        OneClassImageSDF(**options).fit(bars(5, upright=True))


def test_no_images_are_made_of_none_asked_for(detector: OneClassImageSDF) -> None:
    with pytest.raises(ValueError, match="`n` must be at least 1; got 0"):
        synthesize(detector, 0)
    with pytest.raises(ValueError, match="`start` must be one of mean, noise, uniform; got 'cat'"):
        synthesize(detector, start="cat")
    assert not hasattr(package, "Cats")

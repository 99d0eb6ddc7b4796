"""A detector comes back bit for bit, or not at all."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn")
from safetensors import safe_open
from safetensors.torch import save_file
from sklearn.exceptions import NotFittedError

import ocsdf3d
from ocsdf3d.analytic import sphere
from ocsdf3d.container import CheckpointError, digest
from ocsdf3d.lipschitz.certificate import CertificateError
from ocsdf3d.oneclass import OneClassSDF, load, save
from ocsdf3d.oneclass.columns import Columns

ROWS = np.random.default_rng(0).normal(size=(150, 3)) * (1.0, 1e3, 0.1) + (0.0, 1e5, 1.0 / 3.0)


@pytest.fixture(scope="module")
def detector() -> OneClassSDF:
    parameters = {"margin": 0.1 + 0.2, "contamination": 0.05, "steps": np.int64(40), "random_state": 7}
    return OneClassSDF(preset="fast", device="cpu", **parameters).fit(ROWS)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def mixed() -> Any:
    """Every type of category, one column of numbers, and columns with names."""
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(1)
    draw = lambda values: pandas.Series(rng.choice(np.array(values, object), 80)).astype("category")  # noqa: E731
    table = pandas.DataFrame(
        {
            "length": rng.normal(size=80),
            "kind": draw(["bolt", "1", "é"]),
            "teeth": draw([1, 2, 10**12]),
            "size": draw([0.1, 1.5]),
            "new": rng.random(80) < 0.5,
        }
    )
    return table, OneClassSDF(preset="fast", steps=30, random_state=0).fit(table)


@pytest.fixture
def saved(detector: OneClassSDF, tmp_path: Path) -> Path:
    return save(tmp_path / "detector.safetensors", detector)


def forged(path: Path, tensors: dict[str, torch.Tensor] | None = None, **changes: Any) -> Path:
    """Other contents with a checksum that fits; a change is a value, or a function of the present one."""
    with safe_open(path, framework="pt") as file:
        metadata = dict(file.metadata())
        old = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    header = json.loads(metadata["detector"])
    for name, change in changes.items():
        header[name] = change(header[name]) if callable(change) else change
    text = json.dumps(header, sort_keys=True)
    kept = {name: value for name, value in {**old, **(tensors or {})}.items() if value is not None}
    save_file(kept, path, metadata={**metadata, "detector": text, "sha256": digest(text, kept)})
    return path


def same(found: Any, expected: Any) -> bool:
    if isinstance(expected, np.ndarray):
        return found.dtype == expected.dtype and np.array_equal(found, expected)
    return type(found) is type(expected) and found == expected


# --- round trip


def test_every_attribute_comes_back(detector: OneClassSDF, saved: Path) -> None:
    loaded = load(saved)
    assert loaded.get_params() == detector.get_params()
    assert vars(loaded).keys() == vars(detector).keys()
    for name in vars(detector).keys() - {"network_", "steps"}:
        assert same(getattr(loaded, name), getattr(detector, name)), name
    assert loaded.network_.config == detector.network_.config
    assert not any(parameter.requires_grad for parameter in loaded.network_.parameters())


def test_what_it_says_is_equal_bit_for_bit(detector: OneClassSDF, saved: Path) -> None:
    loaded = load(saved)
    far = np.concatenate([ROWS, 100.0 * ROWS])
    for ask in ("score_samples", "decision_function", "predict", "certified_radius"):
        np.testing.assert_array_equal(getattr(loaded, ask)(far), getattr(detector, ask)(far))
    labels = np.where(np.arange(150) % 3, 1, -1)
    np.testing.assert_array_equal(
        loaded.certify(ROWS, labels, [0, 0.1]), detector.certify(ROWS, labels, [0, 0.1])
    )


def test_it_can_be_fitted_again(detector: OneClassSDF, saved: Path) -> None:
    np.testing.assert_array_equal(
        load(saved).fit(ROWS).score_samples(ROWS), detector.score_samples(ROWS)
    )  # the same seed


def test_categories_come_back_by_type(mixed: Any, tmp_path: Path) -> None:
    table, fitted = mixed
    loaded = load(save(tmp_path / "mixed.safetensors", fitted))
    assert loaded.columns_ == fitted.columns_
    for found, seen in zip(loaded.columns_.categories, fitted.columns_.categories, strict=True):
        assert (found is None) == (seen is None)
        assert [type(value) for value in found or ()] == [type(value) for value in seen or ()]
    kinds = {type(value) for seen in loaded.columns_.categories for value in seen or ()}
    assert kinds == {str, int, float, bool}
    np.testing.assert_array_equal(loaded.feature_names_in_, fitted.feature_names_in_)
    np.testing.assert_array_equal(loaded.score_samples(table), fitted.score_samples(table))
    with pytest.raises(ValueError, match="categories that fit has not seen: screw"):
        loaded.predict(table.assign(kind=["screw"] * len(table)))


def test_same_detector_same_bytes(detector: OneClassSDF, saved: Path, tmp_path: Path) -> None:
    assert save(tmp_path / "again.safetensors", detector).read_bytes() == saved.read_bytes()
    assert save(tmp_path / "loaded.safetensors", load(saved)).read_bytes() == saved.read_bytes()


def test_parameters_that_are_no_plain_values_are_left_out(tmp_path: Path) -> None:
    told: list[int] = []
    fitted = OneClassSDF(
        preset="fast",
        steps=20,
        random_state=np.random.RandomState(0),
        progress=lambda done, total, figures: told.append(done),
    ).fit(ROWS)
    loaded = load(save(tmp_path / "x.safetensors", fitted))
    assert told
    assert loaded.random_state is None
    assert loaded.progress is None
    assert loaded.steps == 20
    np.testing.assert_array_equal(loaded.score_samples(ROWS), fitted.score_samples(ROWS))


# --- what is not saved


def test_what_is_no_fitted_detector_is_not_saved(detector: OneClassSDF, tmp_path: Path) -> None:
    class Other(OneClassSDF):
        """A detector that no file knows."""

    path = tmp_path / "x.safetensors"
    with pytest.raises(TypeError, match="`detector` must be an OneClassSDF; got Other"):
        save(path, Other())
    with pytest.raises(NotFittedError):
        save(path, OneClassSDF())
    spoilt = pickle.loads(pickle.dumps(detector))
    with torch.no_grad():
        spoilt.network_.head.mul_(0.5)
    with pytest.raises(CertificateError):
        save(path, spoilt)
    odd = pickle.loads(pickle.dumps(detector))
    odd.columns_ = Columns((None, None, ((1, 2),)))
    with pytest.raises(TypeError, match="column 2 has categories of type tuple, which no file holds"):
        save(path, odd)
    odd.columns_, odd.history_ = None, {"at": {1, 2}}
    with pytest.raises(TypeError, match="set"):
        save(path, odd)
    assert list(tmp_path.iterdir()) == []


# --- what is refused


def test_altered_weights_are_refused(detector: OneClassSDF, saved: Path) -> None:
    """With a checksum that fits: one part in a thousand, which no bound can tell; then 1 %, above L = 1."""
    hash = detector.certificate_.hash
    head = detector.network_.head.detach()
    for factor, said in ((0.999, "the file's certificate has hash"), (1.01, "the weights have the bound")):
        with pytest.raises(CheckpointError, match=rf"detector\.safetensors: not certified: {said}"):
            load(forged(saved, {f"{hash}.head": head * factor}))
    nan = torch.full_like(head, float("nan"))
    with pytest.raises(CheckpointError, match="not certified"):
        load(forged(saved, {f"{hash}.head": nan}))


def test_the_stated_certificate_is_not_believed(detector: OneClassSDF, saved: Path) -> None:
    loaded = load(forged(saved, certificate=lambda old: {**old, "lipschitz": 0.1, "rounding": 0.0}))
    assert loaded.certificate_ == detector.certificate_
    for radius in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(CheckpointError, match="radius"):
            load(forged(saved, certificate=lambda old, radius=radius: {**old, "radius": radius}))
    for name, value in {"version": 9, "dtype": "float64", "hash": "0" * 64}.items():
        save(saved, detector)
        with pytest.raises(CheckpointError, match=f"not certified: .* {name}"):
            load(forged(saved, certificate=lambda old, n=name, v=value: {**old, n: v}))


@pytest.mark.parametrize(
    "change",
    [
        {"parameters": {"novelty": 1}},
        {"names": ["a", "b"]},
        {"columns": [None, ["a", "b", "c"]]},
        {"columns": 3},
        {"network": {"inputs": 4, "width": 64, "depth": 4}},
        {"values": lambda old: {**old, "unit_": 0.0}},
        {"values": lambda old: {**old, "offset_": float("nan")}},
        {"values": lambda old: {**old, "n_features_in_": 4}},
        {"values": lambda old: {name: value for name, value in old.items() if name != "offset_"}},
        {"values": lambda old: {**old, "__class__": 1}},
        {"values": lambda old: {**old, "predict": 1}},
        {"values": lambda old: {**old, "network_": 1}},
        {"tensors": {"scale_": torch.zeros(3, dtype=torch.float64)}},
        {"tensors": {"scale_": torch.ones(3)}},
        {"tensors": {"mean_": torch.ones(4, dtype=torch.float64)}},
        {"tensors": {"mean_": torch.full((3,), float("nan"), dtype=torch.float64)}},
        {"tensors": {"mean_": None}},
        {"tensors": {"more": torch.zeros(1)}},
    ],
)
def test_contents_that_make_no_sense_are_refused(change: dict[str, Any], saved: Path) -> None:
    with pytest.raises(CheckpointError, match=r"detector\.safetensors: the detector is not understood"):
        load(forged(saved, **change))


def test_a_field_is_no_detector_and_a_detector_is_no_field(saved: Path, tmp_path: Path) -> None:
    field = ocsdf3d.save(tmp_path / "field.safetensors", sphere())
    with pytest.raises(
        CheckpointError, match=r"a file of kind field, not a detector of ocsdf3d: use ocsdf3d\.load\."
    ):
        load(field)
    with pytest.raises(
        CheckpointError,
        match=r"a file of kind detector, not a field of ocsdf3d: use ocsdf3d\.oneclass\.load\.",
    ):
        ocsdf3d.load(saved)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "absent.safetensors")

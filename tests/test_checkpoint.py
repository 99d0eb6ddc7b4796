"""A field comes back bit for bit, or not at all."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from ocsdf3d import checkpoint, container
from ocsdf3d.analytic import Sphere, box, capsule, sphere, torus
from ocsdf3d.checkpoint import CheckpointError, load, save
from ocsdf3d.csg import Field
from ocsdf3d.field import SDF
from ocsdf3d.frame import Frame

Born = Callable[..., SDF]
POINTS = np.random.default_rng(0).uniform(-40.0, 60.0, (3000, 3))


@pytest.fixture
def small(born: Born) -> SDF:
    """2 × 8, so that a file is short enough to damage everywhere; a frame that no float32 holds."""
    sdf = born(width=8, depth=2, frame=Frame(np.array([5.1, -2.2, 9.3]), 37.7))
    history = {
        "steps": 3,
        "interrupted": True,
        "seconds": {"train": 0.1},
        "curves": {"loss": [0.3, 0.1 + 0.2]},
    }
    settings = {"preset": "fast", "seed": 0, "train": {"margin": 0.005}}
    return dataclasses.replace(
        sdf, settings=settings, history=history, support="shell", support_reason="wegen λ = 3"
    )


@pytest.fixture
def saved(small: SDF, tmp_path: Path) -> Path:
    return save(tmp_path / "field.safetensors", small)


def parts(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata())  # noqa: SIM118


def key(tensors: dict[str, torch.Tensor], name: str) -> str:
    """The full name of a tensor: that of its network, which is a hash, comes first."""
    return next(full for full in sorted(tensors) if full.endswith(f".{name}"))


def rewritten(
    path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str], header: dict | None = None
) -> Path:
    """A forgery: other contents with a checksum that fits."""
    field = metadata["field"] if header is None else json.dumps(header, sort_keys=True)
    digest = container.digest(field, tensors)
    forged = path.with_name("forged.safetensors")
    save_file(tensors, forged, metadata={**metadata, "field": field, "sha256": digest})
    return forged


# ------------------------------------------------------------------------------------------ round trip


def test_values_are_equal_bit_for_bit(small: SDF, saved: Path) -> None:
    loaded = load(saved, device="cpu")
    assert np.array_equal(loaded(POINTS), small(POINTS))
    assert np.array_equal(loaded.gradient(POINTS), small.gradient(POINTS))


def test_trained_field_comes_back(trained: SDF, tmp_path: Path) -> None:
    loaded = load(save(tmp_path / "field.safetensors", trained), device="cpu")
    x = np.random.default_rng(0).uniform(trained.box.lower, trained.box.upper, (3000, 3))
    assert np.array_equal(loaded(x), trained(x))
    assert loaded.settings == json.loads(json.dumps(trained.settings))
    assert loaded.history == trained.history
    mesh, again = trained.mesh(resolution=32), loaded.mesh(resolution=32)
    assert np.array_equal(mesh.vertices, again.vertices)


def test_everything_else_comes_back(small: SDF, saved: Path) -> None:
    loaded = load(saved, device="cpu")
    for name in ("level", "proof", "support", "support_reason", "settings", "history"):
        assert getattr(loaded, name) == getattr(small, name), name
    assert (loaded.frame.center == small.frame.center).all()
    assert loaded.frame.scale == small.frame.scale
    assert (loaded.box.lower == small.box.lower).all()
    assert (loaded.box.upper == small.box.upper).all()
    assert loaded.network.config == small.network.config
    assert not any(parameter.requires_grad for parameter in loaded.network.parameters())
    # A new attribute of SDF must be thought of here and in the file.
    fields = {field.name for field in dataclasses.fields(SDF)}
    assert fields == {
        "network",
        "frame",
        "level",
        "proof",
        "support",
        "support_reason",
        "box",
        "settings",
        "history",
        "spheres",
    }


def test_the_file_describes_itself(saved: Path, small: SDF) -> None:
    """What another program needs to evaluate φ is in the header, as JSON, by name."""
    _, metadata = parts(saved)
    assert metadata["format"] == "ocsdf3d-field"
    assert metadata["version"] == "2"
    header = json.loads(metadata["field"])
    assert header["network"] == dataclasses.asdict(small.network.config)
    assert header["frame"] == {"center": [5.1, -2.2, 9.3], "scale": 37.7}
    assert header["level"] == small.level
    assert {"kind", "box", "certificate", "support", "support_reason", "settings", "history"} <= set(header)


def test_same_field_same_bytes(small: SDF, saved: Path, tmp_path: Path) -> None:
    assert save(tmp_path / "again.safetensors", small).read_bytes() == saved.read_bytes()


# ------------------------------------------------------------------------------------------- refusals


def test_cut_anywhere(saved: Path, tmp_path: Path) -> None:
    whole = saved.read_bytes()
    path = tmp_path / "cut.safetensors"
    for length in {*range(0, len(whole), 41), 1, 7, 8, 9, len(whole) - 1}:
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"cut\.safetensors"):
            load(path)


def test_bytes_after_the_end(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes() + b"\0")
    with pytest.raises(CheckpointError):
        load(saved)


@pytest.mark.parametrize("mask", [0x01, 0x80])
def test_one_bit_flipped_anywhere(mask: int, saved: Path, tmp_path: Path) -> None:
    """Every third byte and the whole safetensors header's beginning: length, names, metadata, weights."""
    whole = bytearray(saved.read_bytes())
    path = tmp_path / "flipped.safetensors"
    for position in {*range(64), *range(0, len(whole), 3), len(whole) - 1}:
        damaged = bytearray(whole)
        damaged[position] ^= mask
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError):
            load(path)


@pytest.mark.parametrize("version", ["4", "10", "0", "", "1.0", "-1", "²"])
def test_version(version: str, saved: Path) -> None:
    tensors, metadata = parts(saved)
    save_file(tensors, saved, metadata={**metadata, "version": version})
    with pytest.raises(CheckpointError, match=r"field format version .*; this ocsdf3d reads up to 3"):
        load(saved)


def test_another_safetensors_file(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    for metadata in (None, {"format": "pt"}, {"format": "ocsdf3d-field", "version": "1"}):
        save_file({"weight": torch.zeros(3)}, path, metadata=metadata)
        with pytest.raises(CheckpointError, match="a safetensors file, but not a field of ocsdf3d"):
            load(path)


@pytest.mark.parametrize(
    "contents", [b"", b"\0" * 8, b"ply\nformat ascii 1.0\n", np.random.default_rng(0).bytes(5000)]
)
def test_other_bytes(contents: bytes, tmp_path: Path) -> None:
    path = tmp_path / "noise.safetensors"
    path.write_bytes(contents)
    with pytest.raises(CheckpointError, match=r"noise\.safetensors: not a field file, or cut short"):
        load(path)


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "field.pt"
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match="not a field file"):
        load(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "absent.safetensors")
    with pytest.raises(OSError):
        load(tmp_path)


def test_weights_above_the_bound(saved: Path) -> None:
    """1 % more on one layer, and a checksum that fits: only the proof can tell."""
    tensors, metadata = parts(saved)
    for name in (key(tensors, "entry"), key(tensors, "square"), key(tensors, "head")):
        forged = rewritten(saved, {**tensors, name: tensors[name] * 1.01}, metadata)
        with pytest.raises(CheckpointError, match=r"forged\.safetensors: not certified: .* the bound 1\.0"):
            load(forged)


@pytest.mark.parametrize("name", ["entry", "square", "head", "biases", "offset"])
def test_one_altered_weight_is_caught(name: str, saved: Path) -> None:
    """One part in a thousand, which no bound can tell, and a checksum that fits: the hash tells."""
    tensors, metadata = parts(saved)
    altered = tensors[key(tensors, name)].clone()
    altered.reshape(-1)[0] = altered.reshape(-1)[0] * 0.999 - 1e-6
    with pytest.raises(
        CheckpointError, match=r"not certified: the (file's certificate has hash|weights have the bound)"
    ):
        load(rewritten(saved, {**tensors, key(tensors, name): altered}, metadata))


def test_the_stated_certificate_is_not_believed(saved: Path, small: SDF) -> None:
    tensors, metadata = parts(saved)
    header = json.loads(metadata["field"])
    better = {**header["certificate"], "lipschitz": 0.1, "rounding": 0.0, "proved": 0.0}
    loaded = load(rewritten(saved, tensors, metadata, {**header, "certificate": better}), device="cpu")
    assert loaded.certificate == small.certificate
    for name, value in {"version": 2, "dtype": "float64", "hash": "0" * 64}.items():
        other = {**header, "certificate": {**header["certificate"], name: value}}
        with pytest.raises(CheckpointError, match=f"not certified: .* {name}"):
            load(rewritten(saved, tensors, metadata, other))


def test_a_file_of_the_first_version_is_proved_anew(saved: Path, small: SDF) -> None:
    tensors, metadata = parts(saved)
    header = {
        k: v for k, v in json.loads(metadata["field"]).items() if k not in ("kind", "number", "certificate")
    }
    old = {name.split(".")[1]: value for name, value in tensors.items()}
    loaded = load(
        rewritten(saved, old, {**metadata, "version": "1"}, {**header, "lipschitz": 0.5}), device="cpu"
    )
    assert loaded.certificate == small.certificate
    assert (loaded(POINTS) == small(POINTS)).all()


def test_a_field_of_float64_comes_back(small: SDF, tmp_path: Path) -> None:
    exact = small.astype("float64")
    loaded = load(save(tmp_path / "exact.safetensors", exact), device="cpu")
    assert loaded.certificate == exact.certificate
    assert loaded.certificate["dtype"] == "float64"
    assert (loaded(POINTS) == exact(POINTS)).all()


# ------------------------------------------------------------------------------------------------ trees


def tree(small: SDF, other: SDF) -> Field:
    """Every kind of node, and leaves of every kind, one of them twice."""
    shapes = sphere(3.0, (1, 2, 3)) | box((1, 2, 3)) & torus(2.0, 0.5) | capsule((0, 0, 0), (1, 1, 1), 0.3)
    both = (small - shapes.scale(2.0)).offset(0.1) | (~other).shell(0.5)
    return both.move((1.0, -2.0, 3.0)) - small


def test_a_tree_comes_back(small: SDF, born: Born, tmp_path: Path) -> None:
    field = tree(small, born(seed=1, width=8, depth=2))
    path = save(tmp_path / "tree.safetensors", field)
    loaded = load(path, device="cpu")
    assert (loaded(POINTS) == field(POINTS)).all()
    assert loaded.certificate == field.certificate
    assert (loaded.box.lower == field.box.lower).all()
    assert save(tmp_path / "again.safetensors", loaded).read_bytes() == path.read_bytes()


def test_a_tree_that_is_altered(small: SDF, born: Born, tmp_path: Path) -> None:
    saved = save(tmp_path / "tree.safetensors", tree(small, born(seed=1, width=8, depth=2)))
    tensors, metadata = parts(saved)
    head = key(tensors, "head")
    with pytest.raises(CheckpointError, match="not certified"):
        load(rewritten(saved, {**tensors, head: tensors[head] * 0.999}, metadata))
    header = json.loads(metadata["field"])
    for changed in (
        {**header, "kind": "exclusion"},
        {**header, "parts": header["parts"][:1]},
        {**header, "settings": {"by": [1, 2, 3]}},
        {**header, "parts": [{"kind": "cone", "settings": {}}, header["parts"][1]]},
        {**header, "parts": [{"kind": "sphere", "settings": {"size": 1}}, header["parts"][1]]},
    ):
        with pytest.raises(CheckpointError, match="the field is not understood"):
            load(rewritten(saved, tensors, metadata, changed))


def test_a_path_in_the_fields_place_is_named(small: SDF, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="takes a path and then a field; got str for the field"):
        save(small, str(tmp_path / "f.safetensors"))  # type: ignore[arg-type]


def test_other_callables_are_not_saved(tmp_path: Path) -> None:
    class Foreign(Sphere):
        """A shape that no file knows."""

    save(tmp_path / "sphere.safetensors", sphere())
    with pytest.raises(TypeError, match="`field` must be an SDF, an exact shape or CSG of them; got Foreign"):
        save(tmp_path / "foreign.safetensors", Foreign(np.zeros(3), 1.0))


@pytest.mark.parametrize("name", ["entry", "square", "head", "biases", "offset"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(name: str, value: float, saved: Path) -> None:
    tensors, metadata = parts(saved)
    tensors[key(tensors, name)].reshape(-1)[0] = value
    with pytest.raises(CheckpointError):
        load(rewritten(saved, tensors, metadata))


def test_headers_that_are_not_understood(saved: Path) -> None:
    tensors, metadata = parts(saved)
    header = json.loads(metadata["field"])
    frame, network = header["frame"], header["network"]
    bad = [
        {name: value for name, value in header.items() if name != "level"},
        {**header, "frame": {**frame, "scale": 0.0}},
        {**header, "frame": {**frame, "scale": float("nan")}},
        {**header, "level": "high"},
        {**header, "box": {"lower": [0, 0, 0], "upper": [-1, 1, 1]}},
        {**header, "network": {**network, "width": 16}},
        {**header, "network": {**network, "activation": "relu"}},
        {**header, "network": {**network, "novelty": 1}},
    ]
    for changed in bad:
        with pytest.raises(CheckpointError, match="the field is not understood"):
            load(rewritten(saved, tensors, metadata, changed))
    for text in ("[]", "3", "{", "[" * 100_000):
        digest = container.digest(text, tensors)
        save_file(tensors, saved, metadata={**metadata, "field": text, "sha256": digest})
        with pytest.raises(CheckpointError, match="the field is not understood"):
            load(saved)


def test_tensors_that_are_not_understood(saved: Path) -> None:
    tensors, metadata = parts(saved)
    lacking = {name: value for name, value in tensors.items() if not name.endswith("biases")}
    more = ({**tensors, name: torch.zeros(1)} for name in ("more", key(tensors, "head") + "er", "1.head"))
    for changed in (lacking, *more, {**tensors, key(tensors, "head"): torch.zeros(9)}):
        with pytest.raises(CheckpointError, match="the field is not understood"):
            load(rewritten(saved, changed, metadata))
    half = {name: value.to(torch.bfloat16) for name, value in tensors.items()}  # NumPy has no such type
    with pytest.raises(CheckpointError, match="not certified: no proof covers arithmetic in bfloat16"):
        load(rewritten(saved, half, metadata))


# --------------------------------------------------------------------------------------------- device


def test_device_that_is_absent(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is fine, so this is no CheckpointError."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="`device` is cuda, but torch sees no CUDA device here") as caught:
        load(saved, device="cuda")
    assert not isinstance(caught.value, CheckpointError)
    assert load(saved).device.type == "cpu"


def test_device_that_is_no_device(saved: Path) -> None:
    with pytest.raises(ValueError, match="`device` must be auto, cpu or cuda; got 'gpu'"):
        load(saved, device="gpu")


# --------------------------------------------------------------------------------------------- saving


def test_a_failed_save_leaves_nothing(small: SDF, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "field.safetensors"

    write = Path.write_bytes

    def full(target: Path, data: bytes) -> int:
        write(target, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        save(path, small)
    assert list(tmp_path.iterdir()) == []
    write(path, b"earlier")
    with pytest.raises(OSError, match="No space left"):
        save(path, small)
    assert [p.name for p in tmp_path.iterdir()] == ["field.safetensors"]
    assert path.read_bytes() == b"earlier"


def test_history_that_is_not_json_leaves_nothing(small: SDF, tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        save(tmp_path / "field.safetensors", dataclasses.replace(small, history={"mask": {1, 2}}))
    assert list(tmp_path.iterdir()) == []


def test_missing_folder(small: SDF, tmp_path: Path) -> None:
    with pytest.raises(OSError):
        save(tmp_path / "absent" / "field.safetensors", small)


def test_overwriting_and_permissions(small: SDF, saved: Path, tmp_path: Path) -> None:
    other = dataclasses.replace(small, level=small.level + 0.01)
    assert save(str(saved), other) == saved
    assert load(saved).level == other.level
    plain = tmp_path / "plain"
    plain.write_text("as the umask allows")
    assert saved.stat().st_mode == plain.stat().st_mode  # not the 0600 of a temporary file


def test_nothing_executes() -> None:
    """Neither pickle nor anything built on it is named in the module."""
    tree = ast.parse(inspect.getsource(checkpoint))
    names = {
        node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "") for node in ast.walk(tree)
    }
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert not {"pickle", "marshal", "shelve", "dill"} & imported
    assert not {"eval", "exec", "compile", "__import__"} & names
    assert not any(
        isinstance(node, ast.Attribute) and node.attr == "load" and getattr(node.value, "id", "") == "torch"
        for node in ast.walk(tree)
    )

"""The sealed file: the bytes of today's fields for ever, one kind never read as another, nothing executed."""

from __future__ import annotations

import ast
import hashlib
import inspect
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from ocsdf3d import checkpoint, container, resume
from ocsdf3d.analytic import sphere, torus
from ocsdf3d.container import CheckpointError, digest, seal, unseal
from ocsdf3d.images import saved as of_images
from ocsdf3d.oneclass import checkpoint as of_detectors

TENSORS = {
    "b": torch.arange(3.0),
    "a.c": torch.tensor(2, dtype=torch.int64),
    "half": torch.ones(2).bfloat16(),
}
HEADER = {"z": [0.1, 1, True, None, "é"], "a": {}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return seal(tmp_path / "x.safetensors", "detector", 3, HEADER, TENSORS)


def test_contents_come_back(path: Path) -> None:
    found = unseal(path, "detector", 3)
    assert found.header == HEADER
    assert found.version == 3
    assert found.tensors.keys() == TENSORS.keys()
    for name, value in TENSORS.items():
        assert found.tensors[name].dtype is value.dtype
        assert torch.equal(found.tensors[name], value)


def test_a_field_has_the_bytes_it_always_had(tmp_path: Path) -> None:
    """Written before there was a `container.py`; exact shapes only: random weights may change with torch."""
    path = checkpoint.save(tmp_path / "exact.safetensors", sphere(3.0, (1, 2, 3)) | torus(2.0, 0.5))
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    assert found == "6c9c7949f0093ac8963dbf5daaa28f7579712d9ad3a8ff9ef6d9c623e89923e9"


def test_the_order_of_what_is_given_does_not_matter(path: Path, tmp_path: Path) -> None:
    turned = dict(reversed(TENSORS.items()))
    again = seal(tmp_path / "y.safetensors", "detector", 3, dict(reversed(HEADER.items())), turned)
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": "4"}, r"detector format version 4; this ocsdf3d reads up to 3\. Upgrade"),
        ({"detector": "{}"}, "the contents do not match their checksum"),
        ({"format": "pt"}, "a safetensors file, but not a detector of ocsdf3d"),
        ({"format": "detector"}, "a safetensors file, but not a detector of ocsdf3d"),
        (
            {"format": "ocsdf3d-field"},
            r"a file of kind field, not a detector of ocsdf3d: use ocsdf3d\.load\.",
        ),
        ({"format": "ocsdf3d-song"}, r"a file of kind song, not a detector of ocsdf3d\."),
        ({"detector": "3", "sha256": digest("3", TENSORS)}, "the detector is not understood .*not int"),
    ],
)
def test_what_is_not_as_written_is_refused(change: dict[str, str], said: str, path: Path) -> None:
    with safe_open(path, framework="pt") as file:
        metadata = dict(file.metadata())
    save_file(TENSORS, path, metadata={**metadata, **change})
    with pytest.raises(CheckpointError, match=rf"x\.safetensors: .*{said}"):
        unseal(path, "detector", 3)


def test_an_altered_tensor_is_refused(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="checksum"):
        unseal(path, "detector", 3)


def test_a_cut_file_is_refused_by_its_kind(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="not a detector file, or cut short"):
        unseal(path, "detector", 3)


def test_every_kind_that_is_read_has_its_reader() -> None:
    assert set(container.READERS) == {checkpoint.KIND, of_detectors.KIND, of_images.KIND, resume.KIND}
    for name in container.READERS.values():
        module, function = name.rsplit(".", 1)
        assert callable(getattr(__import__(module, fromlist=[function]), function))


@pytest.mark.parametrize("module", [container, of_detectors, of_images], ids=lambda m: m.__name__)
def test_nothing_executes(module: object) -> None:
    """Neither pickle nor anything built on it is named there."""
    tree = ast.parse(inspect.getsource(module))  # type: ignore[arg-type]
    nodes = list(ast.walk(tree))
    imports = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    imported = {alias.name.partition(".")[0] for node in imports for alias in node.names}
    imported |= {str(getattr(node, "module", "")).partition(".")[0] for node in imports}
    assert not {"pickle", "marshal", "shelve", "dill", "joblib"} & imported
    assert not {"eval", "exec", "compile", "__import__"} & {getattr(node, "id", "") for node in nodes}
    assert "torch.load" not in {ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute)}

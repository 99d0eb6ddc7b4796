"""The README's Python runs as printed, and what it links to exists."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
TEXT = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def test_the_snippets_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: object) -> None:
    snippets = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    assert len(snippets) == 3
    # The preset `default` takes a minute a call; here every call need only exist and do what is printed.
    from ocsdf3d import presets

    monkeypatch.setitem(presets.PRESETS, "default", presets.PRESETS["tiny"])
    shutil.copytree(REPOSITORY / "assets", tmp_path / "assets")
    monkeypatch.chdir(tmp_path)
    # what the user of the detector brings along
    rows = np.random.default_rng(0).normal(size=(60, 3))
    labels = np.where(np.arange(60) < 50, 1, -1)
    names: dict[str, object] = {"rows": rows, "labels": labels}
    exec("\n".join(snippets), names)
    import ocsdf3d as oc

    assert names["mesh"].is_watertight  # type: ignore[attr-defined]
    assert len(oc.read("thicker.ply").faces) > 0
    assert oc.load("kitten.safetensors").lipschitz <= 1.0
    assert oc.read("bitten.ply").is_watertight
    assert names["hits"].hit.shape == names["inside"].shape == (1,)  # type: ignore[attr-defined]
    assert names["detector"].certificate_.lipschitz <= 1.0  # type: ignore[attr-defined]
    assert names["on_surface"].converged.mean() > 0.9  # type: ignore[attr-defined]


def test_what_it_links_to_exists() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", TEXT)
    assert links, "the first screen has a picture"
    for link in links:
        assert (REPOSITORY / link).exists(), link

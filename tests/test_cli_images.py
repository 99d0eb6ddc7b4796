"""`ocsdf3d images`: each step on files, each flag seen to act, and what is refused in one line."""

from __future__ import annotations

import argparse
import csv
import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("sklearn")

from ocsdf3d.cli import build_parser, main
from ocsdf3d.cli.images import bench as bench_step
from ocsdf3d.cli.images import fit, synthesize
from ocsdf3d.images import load
from ocsdf3d.images.estimator import PRESETS
from ocsdf3d.images.negatives import NEGATIVES

SIDE = 10


def run(*argv: object) -> int:
    return main(["images", *map(str, argv)])


def told(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def bars(n: int, seed: int, *, upright: bool) -> np.ndarray:
    rng = np.random.default_rng(seed)
    out = rng.integers(0, 30, (n, SIDE, SIDE))
    for image, place in zip(out, rng.integers(0, SIDE - 1, n), strict=True):
        image[:, place : place + 2] += 200
    return (out if upright else out.transpose(0, 2, 1)).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same images as NPZ with labels, and as folders of files."""
    path = tmp_path_factory.mktemp("images")
    learnt, own, others = bars(100, 0, upright=True), bars(30, 1, upright=True), bars(30, 2, upright=False)
    np.savez(path / "judge.npz", X=np.concatenate([own, others]), y=np.repeat([7, 3], 30), Z=learnt)
    for half, parts in (("train", (learnt[:40], others)), ("test", (own, others))):
        for name, images in zip(("up", "flat"), parts, strict=True):
            (path / half / name).mkdir(parents=True)
            for number, image in enumerate(images):
                Image.fromarray(image).save(path / half / name / f"{number:03}.png")
    return path


@pytest.fixture(scope="module")
def detector(folder: Path) -> Path:
    path = folder / "up.safetensors"
    assert run("fit", folder / "judge.npz", "--array", "Z", "-o", path, "--steps", 60, "-q") == 0
    return path


def test_fitting_is_told(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "d.safetensors"
    assert run("fit", folder / "train" / "up", "-o", out, "--steps", 3, "--json") == 0
    figures = told(capsys)
    assert (figures["images"], figures["shape"], figures["steps"]) == (40, [SIDE, SIDE], 3)
    assert figures["certificate"]["lipschitz"] <= 1.0
    assert load(out).n_iter_ == 3


@pytest.mark.parametrize(
    ("flags", "seen"),
    [
        (["--preset", "conv"], lambda d: d.preset == "conv"),
        (["--margin", "0.4"], lambda d: d.margin == 0.4),
        (["--lam", "30"], lambda d: d.lam == 30.0),
        (["--negatives", "noise", "corners"], lambda d: d.negatives == ["noise", "corners"]),
        (["--contamination", "0.3"], lambda d: d.contamination == 0.3),
        (["--seed", "5"], lambda d: d.random_state == 5),
        (["--device", "cpu"], lambda d: d.device == "cpu"),
        (["--size", "6", "5"], lambda d: d.shape_ == (6, 5)),
        (["--channels", "3"], lambda d: d.shape_ == (SIDE, SIDE, 3)),
    ],
)
def test_every_flag_of_fit_acts(flags: list[str], seen: Any, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "d.safetensors"
    assert run("fit", folder / "train" / "up", "-o", out, "--steps", 2, "-q", *flags) == 0
    assert seen(load(out))


def test_an_interrupt_keeps_what_was_learnt(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way, with the signal at the first report of training."""
    from ocsdf3d.cli import progress

    told_of: list[int] = []

    def report(self: object, stage: str, done: int, total: int, figures: object) -> None:
        if not told_of:
            signal.raise_signal(signal.SIGINT)
        told_of.append(done)

    monkeypatch.setattr(progress.Progress, "__call__", report)
    out = tmp_path / "d.safetensors"
    assert run("fit", folder / "train" / "up", "-o", out, "--steps", 200, "--json") == 0
    end = capsys.readouterr()
    figures = json.loads(end.out)
    assert (figures["interrupted"], figures["steps"], told_of) == (True, 25, [25])
    assert end.err == "ocsdf3d: warning: interrupted: training ended after 25 steps; its result is written\n"
    assert load(out).certificate_.lipschitz <= 1.0
    assert load(out).history_["interrupted"]


def test_terminated_and_resumed(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM at the first report ends the training and keeps it; the resumed one gives the same detector."""
    from ocsdf3d.cli import progress

    whole, out, kept = (tmp_path / f"{name}.safetensors" for name in ("whole", "resumed", "kept"))
    asked = ["fit", folder / "train" / "up", "--steps", 60, "-o"]
    keeping = [out, "--checkpoint", kept, "--checkpoint-every", 0.5, "--resume"]
    assert run(*asked, whole, "-q") == 0
    told_of: list[int] = []

    def report(self: object, stage: str, done: int, total: int, figures: object) -> None:
        if not told_of:
            signal.raise_signal(signal.SIGTERM)
        told_of.append(done)

    with monkeypatch.context() as patch:
        patch.setattr(progress.Progress, "__call__", report)
        assert run(*asked, *keeping) == 143
    said = capsys.readouterr().err
    assert f"{kept} is not there yet: training begins" in said
    assert f"terminated after 25 steps; --resume goes on from {kept}" in said
    assert not out.exists()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert run(*asked, *keeping) == 0
    assert f"went on from step 25 of {kept}" in capsys.readouterr().err
    assert load(out).certificate_.hash == load(whole).certificate_.hash
    assert run(*asked, out, "--resume") == 2
    assert "--resume goes on from --checkpoint FILE" in capsys.readouterr().err
    assert run(*asked, out, "--checkpoint", out) == 1
    assert str(out) in capsys.readouterr().err


def test_photos_of_any_size_and_kind_are_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cats and dogs as people have them: gray, colour, palette and see-through, in files of all sizes."""
    rng = np.random.default_rng(0)
    for name, upright in (("cats", True), ("dogs", False)):
        (tmp_path / name).mkdir()
        for number, kind in enumerate(("L", "RGB", "P", "RGBA", "LA") * 6):
            image = Image.fromarray(bars(1, number, upright=upright)[0])
            wide, high = (int(size) for size in rng.integers(20, 60, 2))
            suffix = "jpg" if kind in ("L", "RGB") else "png"
            image.resize((wide, high)).convert(kind).save(tmp_path / name / f"{number:02}.{suffix}")
    out, cats, dogs = tmp_path / "cat.safetensors", tmp_path / "cats", tmp_path / "dogs"
    assert run("fit", cats, "-o", out) == 1
    err = capsys.readouterr().err
    assert "Give a size and channels to convert them to" in err
    assert err.count("\n") == 1
    sized = ["--size", 12, 14, "--channels", 3]
    assert run("fit", cats, "-o", out, "--steps", 60, *sized, "-q") == 0
    capsys.readouterr()
    assert run("certify", out, cats, "--others", dogs, "--radii", 0, *sized, "--json") == 0
    figures = told(capsys)
    assert (figures["normal"], figures["others"]) == (30, 30)
    assert figures["auroc"] > 0.8


def test_images_that_are_no_pixels_are_one_line(
    detector: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = {
        "nan": (np.full((3, SIDE, SIDE), np.nan), "image 0 holds NaN"),
        "channels": (np.zeros((3, SIDE, SIDE, 2), np.uint8), "1, 3 or 4 channels"),
        "colour": (np.zeros((3, SIDE, SIDE, 3), np.uint8), "images of 10 × 10, as fit had; got 10 × 10 × 3"),
        "none": (np.zeros((0, SIDE, SIDE), np.uint8), "got 0"),
    }
    for name, (X, said) in cases.items():
        path = tmp_path / f"{name}.npz"
        np.savez(path, X=X)
        learns = ["fit", path, "-o", tmp_path / "d.safetensors"]
        asked = ["score", detector, path] if name == "colour" else learns
        assert run(*asked) == 1
        err = capsys.readouterr().err
        assert said in err
        assert err.count("\n") == 1


def test_labels_choose_the_class(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--array", "X", "--labels", "y", "--class"]
    out = tmp_path / "d.safetensors"
    assert run("fit", folder / "judge.npz", *given, 7, "-o", out, "--steps", 2, "--json") == 0
    assert told(capsys)["images"] == 30
    assert run("fit", folder / "judge.npz", *given, 9, "-o", out, "--steps", 2) == 1
    assert "no label '9' in y, an empty class; there are 3, 7" in capsys.readouterr().err
    assert run("fit", folder / "judge.npz", "--labels", "y", "-o", out) == 1
    assert "--labels and --class belong together" in capsys.readouterr().err


def test_scores_radii_and_heat_are_written(
    folder: Path, detector: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, heat = tmp_path / "scores.csv", tmp_path / "heat.png"
    given = [detector, folder / "test" / "flat"]
    assert run("score", *given, "-o", out, "--heat", heat, "--worst", 5, "--json") == 0
    figures = told(capsys)
    assert figures["accepted"] < 0.2
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert [row["image"] for row in rows[:2]] == ["000.png", "001.png"]
    assert len(rows) == 30
    assert all((float(row["score"]) >= 0.0) == (row["decision"] == "1") for row in rows)
    assert max(float(row["certified_radius"]) for row in rows) > 0.0
    with Image.open(heat) as picture:
        side = SIDE * (112 // SIDE)
        assert picture.size == (5 * (side + 2) + 2, 2 * (side + 2) + 2)
        assert len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0)) > 20


@pytest.mark.parametrize("step", ["certify", "attack"])
def test_what_is_proved_and_attacked(
    step: str, folder: Path, detector: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labelled = [detector, folder / "judge.npz", "--array", "X", "--labels", "y", "--class", 7]
    extra = ["--steps", 5, "--restarts", 0, "--limit", 20, "--seed", 1] if step == "attack" else []
    assert run(step, *labelled, "--radii", 0, 255, 510, "--json", *extra) == 0
    figures = told(capsys)
    assert figures["normal"] == (20 if step == "attack" else 30)
    certified = figures["certified_auroc"]
    assert figures["auroc"] >= certified[0] >= certified[1] > certified[2]
    if step == "certify":
        with np.load(folder / "judge.npz") as arrays:
            X, labels = arrays["X"], np.where(arrays["y"] == 7, 1, -1)
        assert certified == load(detector).certify(X, labels, np.array([0.0, 1.0, 2.0])).tolist()
    if step == "attack":
        for least, attacked in zip(certified, figures["attacked_auroc"], strict=True):
            assert least <= attacked <= figures["auroc"]
        assert run(step, *labelled, "--radii", 510, "--json", *extra, "--steps", 40) == 0
        assert told(capsys)["attacked_auroc"][0] <= figures["attacked_auroc"][2]
    else:
        others = [detector, folder / "test" / "up", "--others", folder / "test" / "flat"]
        assert run(step, *others, "--radii", 0, 255, 510, "--json") == 0
        assert told(capsys)["certified_auroc"] == pytest.approx(certified)
    assert run(step, detector, folder / "judge.npz", "--array", "X") == 1
    assert "give either --others IMAGES, or --labels and --class" in capsys.readouterr().err


def test_synthesis_is_drawn(detector: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "made.png"
    given = [detector, "-o", out, "--count", 6, "--columns", 3, "--json"]
    assert run("synthesize", *given) == 0
    figures = told(capsys)
    assert len(figures["scores"]) == 6
    with Image.open(out) as picture:
        assert picture.size == (3 * 112 + 2, 2 * 112 + 2)  # 110 and gaps of 2
    assert run("synthesize", *given, "--level", 2.0) == 0
    assert sum(told(capsys)["scores"]) > sum(figures["scores"])
    assert run("synthesize", *given, "--start", "uniform", "--level", -99) == 0  # where it begins
    capsys.readouterr()
    assert np.asarray(Image.open(out).convert("L")).std() > 60.0  # 74 of uniform noise
    assert run("synthesize", *given, "--steps", 2, "--multiplier", 0.1, "--seed", 1) == 0
    assert max(told(capsys)["scores"]) < min(figures["scores"])


def test_a_broken_file_is_skipped_only_when_asked(
    folder: Path, detector: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(3):
        Image.fromarray(bars(1, number, upright=True)[0]).save(tmp_path / f"{number}.png")
    (tmp_path / "1.png").write_bytes(b"\x89PNG")
    assert run("score", detector, tmp_path) == 1
    assert "1.png: cannot be read" in capsys.readouterr().err
    assert run("score", detector, tmp_path, "--skip-broken", "--json") == 0
    end = capsys.readouterr()
    assert "1.png cannot be read and was skipped" in end.err
    assert json.loads(end.out)["images"] == 2
    assert "is no image" not in end.err
    (tmp_path / "more").mkdir()
    assert run("score", detector, tmp_path, "--skip-broken") == 0
    assert f"{tmp_path}: left out what is no image, 1 in all" in capsys.readouterr().err
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "1.png")
    assert run("fit", tmp_path, "-o", tmp_path / "d.safetensors") == 1
    assert "1.png: 4 × 4 gray, but 0.png is 10 × 10 gray" in capsys.readouterr().err
    assert run("score", detector, tmp_path) == 0
    assert "1 of 3 images were brought to 10 × 10, as learnt" in capsys.readouterr().err


def test_what_is_missing_is_one_line(
    detector: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("fit", tmp_path / "cats", "-o", tmp_path / "d.safetensors") == 1
    assert "cats: no such file or folder" in capsys.readouterr().err
    assert run("fit", tmp_path, "-o", tmp_path / "d.safetensors") == 1
    err = capsys.readouterr().err
    assert "an empty class" in err
    assert err.count("\n") == 1
    assert run("score", tmp_path / "none.safetensors", tmp_path) == 1
    assert "none.safetensors" in capsys.readouterr().err


def test_files_are_brought_to_what_the_detector_has_learnt(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As learnt with --size and --channels, without saying these again."""
    small, learnt = tmp_path / "small.safetensors", folder / "train" / "up"
    assert run("fit", learnt, "-o", small, "--steps", 20, "-q", "--size", 6, 6, "--channels", 3) == 0
    capsys.readouterr()
    assert run("score", small, folder / "test" / "up", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    again = ["--size", 6, 6, "--channels", 3, "--json"]
    assert run("score", small, folder / "test" / "up", *again) == 0
    assert json.loads(capsys.readouterr().out)["lowest"] == told["lowest"]
    others = ["--others", folder / "test" / "flat", "--json"]
    assert run("certify", small, folder / "test" / "up", *others) == 0
    assert json.loads(capsys.readouterr().out)["auroc"] > 0.5
    assert run("score", small, folder / "test" / "up", "--size", 5, 6) == 1
    assert "must hold images of 6 × 6 × 3, as fit had; got 5 × 6 × 3" in capsys.readouterr().err


def test_the_bench_runs_on_folders_and_goes_on(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from ocsdf3d.bench import image_figures, image_methods, images
    from ocsdf3d.images import estimator

    monkeypatch.setitem(estimator.PRESETS, "cpu", replace(PRESETS["cpu"], steps=30))
    monkeypatch.setattr(image_methods, "EPOCHS", 2)
    monkeypatch.setattr(images, "RESTARTS", 0)
    given = [folder, "--out", tmp_path, "--attacked", 10, "--seeds", 0, "--preset", "cpu", "--device", "cpu"]
    draw = ["--draw", *image_figures.KINDS]
    assert run("bench", *given, "--classes", "up", "--methods", *images.METHODS, *draw) == 0
    first = capsys.readouterr()
    table = first.out
    assert "## AUROC [%]" in table
    assert "images: 30 to 40 to learn of each class; to test 30 of it against 30 others" in table
    for kind in image_figures.KINDS:
        with Image.open(tmp_path / f"images_{folder.name}_{kind}.png") as picture:
            assert min(picture.size) > 50
            assert np.asarray(picture.convert("L")).std() > 10.0  # nothing is blank
    assert "## deepsvdd under attack" in table
    rows = json.loads((tmp_path / f"images_{folder.name}.json").read_text())
    assert [row["method"] for row in rows] == list(images.METHODS)
    ours, counts = rows[0], ("learnt", "normal", "others")
    assert [ours[name] for name in counts] == [40, 30, 30]
    assert ours["gradient_norm"] > 0.8
    assert ours["auroc"] > 0.9
    assert ours["certified_8"] >= ours["certified_36"] >= ours["certified_72"]
    for radius in images.RADII:
        assert ours[f"least_{radius}"] <= ours[f"attacked_{radius}"] <= ours["clean_attacked"]
    assert rows[1]["least_36"] is None
    for row in rows[1:4]:
        attacked = [row["clean_attacked"], *(row[f"attacked_{radius}"] for radius in images.RADII)]
        assert attacked == sorted(attacked, reverse=True)
    assert rows[4]["clean_attacked"] is None
    detector = tmp_path / "detectors" / f"{folder.name}_up_{SIDE}x{SIDE}x1_cpu_0.safetensors"
    assert load(detector).n_iter_ == 30
    detector.unlink()
    assert run("bench", *given, "--classes", "up", "--methods", "ocsdf", "--draw", "heat") == 0
    assert "learnt for the figure" in capsys.readouterr().err
    assert load(detector).n_iter_ == 30
    assert run("bench", *given, "--classes", "up", "flat", "--methods", "forest", "--json") == 0
    assert "class flat, seed 0, forest" in capsys.readouterr().err  # and nothing of class up
    assert len(json.loads((tmp_path / f"images_{folder.name}.json").read_text())) == 7
    sized = [folder, "--methods", "ocsdf", "--size", 5, 6, "--classes", "up", "--out", tmp_path]
    assert run("bench", *sized, "--channels", 3, "--attacked", 0) == 0
    assert load(detector.with_name(f"{folder.name}_up_5x6x3_cpu_0.safetensors")).shape_ == (5, 6, 3)
    kept = json.loads((tmp_path / f"images_{folder.name}.json").read_text())
    assert len(kept) == 8  # of other images, or attacked otherwise, is another row
    assert (kept[-1]["shape"], kept[-1]["attacked"], kept[-1]["clean_attacked"]) == ("5x6x3", 0, None)
    assert run("bench", *sized, "--channels", 3, "--attacked", 2, "--fresh") == 0
    assert len(json.loads((tmp_path / f"images_{folder.name}.json").read_text())) == 1


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["nowhere"], "neither one of mnist, fashion, cifar10 nor a folder"),
        (["FOLDER", "--classes", "dogs"], "no class 'dogs'"),
        (["FOLDER", "--classes", "up", "--methods", "forest", "--draw", "curves"], "rows that were attacked"),
    ],
)
def test_what_the_bench_cannot_do_is_one_line(
    argv: list[str], said: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(folder) if word == "FOLDER" else word for word in argv]
    assert run("bench", *given, "--out", tmp_path) == 1
    assert said in capsys.readouterr().err


def test_the_command_line_offers_what_there_is() -> None:
    from ocsdf3d.bench import images
    from ocsdf3d.images import synthesis

    assert tuple(PRESETS) == fit.PRESETS == bench_step.PRESETS
    assert tuple(NEGATIVES) == fit.NEGATIVES
    assert images.METHODS == bench_step.METHODS
    assert images.DEFAULT == bench_step.DEFAULT
    assert tuple(images.figures.KINDS) == bench_step.FIGURES
    assert synthesis.STARTS == synthesize.STARTS


def test_every_option_tells_its_default() -> None:
    verbs = next(a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    steps = next(a for a in verbs.choices["images"]._actions if isinstance(a, argparse._SubParsersAction))
    for name, step in steps.choices.items():
        for action in step._actions:
            if action.option_strings and not action.required and action.dest not in ("help", "own"):
                assert "default" in str(action.help), (name, action.option_strings)


def test_info_tells_what_a_detector_of_images_is(detector: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(detector), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["kind"] == "image-detector"
    assert told["lipschitz"] <= 1.0
    assert len(told["shape"]) in (2, 3)
    assert told["settings"]["preset"] == "cpu"

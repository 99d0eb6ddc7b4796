"""The way on one page: shape → points → frame → sides → training → certificate → level → field → mesh."""

from __future__ import annotations

import dataclasses
import os
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import trimesh
from numpy.typing import NDArray

from ocsdf3d import __version__, io
from ocsdf3d.cleaning import Sided, sided
from ocsdf3d.colors import paint
from ocsdf3d.devices import resolve_device
from ocsdf3d.field import SDF
from ocsdf3d.frame import Frame, check_shape, emptiness, inliers
from ocsdf3d.geometry import Box, PointCloud
from ocsdf3d.holding import held
from ocsdf3d.level import QUANTILES, level_of
from ocsdf3d.lipschitz.bound import certify
from ocsdf3d.lipschitz.network import LipschitzNetwork
from ocsdf3d.memory import require_memory
from ocsdf3d.noise import cleared, denoised
from ocsdf3d.planes import on_wires
from ocsdf3d.pools import known_of, source_of
from ocsdf3d.presets import DENSE_POINTS, PRESETS, Preset
from ocsdf3d.resume import EVERY, Keeper, Standing, digest_of, hash_of_arrays
from ocsdf3d.sampling import some_of, surface_points
from ocsdf3d.sides import USED_POINTS, Sides, sides_by
from ocsdf3d.skin import LEVEL, skin_of
from ocsdf3d.thinning import ThinnedCloud, read_within
from ocsdf3d.train import History, TrainConfig, learn
from ocsdf3d.winding import outward

__all__ = ["fit", "fit_within", "reconstruct"]

Floats = NDArray[np.float64]
Progress = Callable[[str, int, int, dict[str, float]], None]
Watch = Callable[[Callable[[], SDF]], None]

APART = 0.8  # of the longest side: what is left for the parts is too little for one network
MESH_POINTS = 2048  # samples drawn from a mesh unless told otherwise, as in the paper


def fit(
    source: Any,
    *,
    points: int | None = None,
    support: str = "auto",
    preset: str | Preset = "default",
    margin: float | None = None,
    lam: float | None = None,
    level: float | None = None,
    device: str = "auto",
    seed: int = 0,
    smooth: bool = True,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
    watch: Watch | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    every: float = EVERY,
    resume: bool = False,
) -> SDF:
    """Return the certified signed distance field of points, normals optional, or of a mesh.

    Parameters
    ----------
    source : path, (n, 3) array, PointCloud, trimesh.Trimesh, or an Open3D shape
        What `read` accepts [world units]. A cloud of more than 400,000 points is read in blocks where the
        format allows it and thinned, see `thinning`.
    points : int, optional
        A mesh is sampled to that many (2,048 when None); a cloud is thinned at random to that many (used
        whole when None).
    support : str
        `"solid"`, `"shell"` or `"auto"`, see `sides.find_sides`.
    preset : str or Preset
        `"fast"`, `"default"`, `"best"` or `"paper"`, or settings of your own.
    margin, lam : float, optional
        m (unit frame) and λ at the end of training; the preset's when None. Their schedules keep their
        ratios.
    level : float, optional
        c in the unit frame; by `level.level_of` when None.
    device : str
        `"auto"`, `"cpu"` or `"cuda"`.
    seed : int
        Fixes every draw; on a CPU the same seed gives the same field.
    smooth : bool
        Smooth a cloud in which noise is seen, see `noise`; not samples of a mesh, nor for `"paper"`.
    progress : callable, optional
        (stage, done, total, figures) → None; stages are sides, train and spheres.
    stop : callable, optional
        Asked every few steps of training; True ends it early, with a certified field of what was learnt.
    watch : callable, optional
        Called every few steps of training with a function that returns the field so far, certified like the
        last one. Whether to ask it, and how often, is up to `watch`; the result does not depend on it.
    checkpoint : path, optional
        Keep the training in this file (`.safetensors`), its end too. A disk that is full is a warning.
    every : float
        Seconds between two writings of it; looked at every few steps.
    resume : bool
        Go on from `checkpoint` if it is there, to the field that the whole run would have given, bit for bit
        on a CPU. Begins anew where there is no such file.

    Returns
    -------
    SDF
        In world units.

    Raises
    ------
    ValueError
        Bad options, or points that bound nothing: too few, equal, collinear or coplanar.
    CheckpointError
        `checkpoint` is damaged, or of another input or of other options.

    Examples
    --------
    >>> sdf = fit("scan.ply", seed=0)               # doctest: +SKIP
    >>> mesh = sdf.mesh(resolution=256)             # doctest: +SKIP
    """
    chosen = _chosen(preset, support, margin, lam, points)
    if level is not None and not np.isfinite(level):
        raise ValueError(f"`level` must be finite; got {level}. Leave it out to have it found.")
    if not 0 <= seed < 2**63:
        raise ValueError(f"`seed` must be from 0 to 2**63 - 1; got {seed}.")
    if resume and checkpoint is None:
        raise ValueError("`resume` needs a `checkpoint` to go on from.")
    target = resolve_device(device)
    begun = time.perf_counter()
    rng = np.random.default_rng(seed)
    shape = read_within(source, seed)
    keeper: Keeper | None = None
    start: Standing | None = None
    if checkpoint is not None:
        io.check_writable(checkpoint, (".safetensors",))
        asked = {"points": points, "support": support, "preset": dataclasses.asdict(chosen), "seed": seed}
        asked |= {"smooth": smooth, "device": target.type}
        identity = {"input": _hash_of(shape), "version": __version__, **asked}
        keeper = Keeper(checkpoint, identity, every)
        start = keeper.found() if resume else None
    cloud = _cloud(shape, points, rng)
    require_memory(
        memory_needed(len(cloud), chosen.pool), f"learning from {len(cloud):,} points", "Take fewer `points`."
    )
    check_shape(cloud)
    loaded = time.perf_counter()

    tell: Progress = progress if progress is not None else lambda *_: None
    tell("sides", 0, 1, {})
    distinct = np.unique(cloud, axis=0)
    kept = distinct if isinstance(shape, trimesh.Trimesh) else distinct[inliers(distinct)]
    outliers = len(distinct) - len(kept)
    if isinstance(shape, ThinnedCloud):
        outliers += shape.strays
    empty = emptiness(kept)
    if empty > APART:
        warnings.warn(
            f"{empty:.0%} of the longest side lie between parts of the points: so far apart for their size"
            " they come out coarse. Cut them apart, or use `ocsdf3d tiles`.",
            UserWarning,
            stacklevel=2,
        )
    # The paper learns the surface; asking for `solid` with its network is allowed, `auto` never means it.
    wanted = "shell" if preset == "paper" and support == "auto" else support
    smooth = smooth and preset != "paper"
    clean = sided(shape, kept, wanted, rng, smooth=smooth, normalisation=chosen.frame)
    if preset == "paper" and support == "auto":
        why = "the paper's setting learns the surface itself"
        clean = clean._replace(sides=dataclasses.replace(clean.sides, reason=why))
    unit = clean.frame.to_unit(clean.points)
    lower, upper = unit.min(axis=0) - chosen.grow, unit.max(axis=0) + chosen.grow
    if chosen.frame == "deviation":  # the authors' box; enlarged where a thin shape would touch it
        lower, upper = np.minimum(lower, -3.0), np.maximum(upper, 3.0)
    settings = {
        "points": len(cloud),
        "read": shape.read if isinstance(shape, ThinnedCloud) else len(cloud),
        "outliers": outliers,
    }
    given = _Given(clean, lower, upper, settings, loaded - begun, loaded)
    return _learnt(given, chosen, preset, level, seed, rng, target, tell, stop, watch, keeper, start)


def fit_within(
    points: Floats,
    region: Box,
    whole: SDF,
    others: Floats,
    resolved: float,
    *,
    preset: str | Preset = "default",
    margin: float | None = None,
    lam: float | None = None,
    device: str = "auto",
    seed: int = 0,
    smooth: bool = True,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
) -> SDF:
    """Return the field of a region of a larger surface, whose own field tells the sides; no spheres hold it.

    What is cut out of a solid is an open surface, and has no sides of its own.

    Parameters
    ----------
    points : (n, 3) array
        Of the region, 16 at least [world units].
    region : Box
        Where the field is wanted [world units].
    whole : SDF
        Of all the surface, in less detail.
    others : (k, 3) array
        Points of the surface outside of the region, sparse ones [world units].
    resolved : float
        Spacing of the points that `whole` was learnt from [world units].
    preset, margin, lam, device, seed, smooth, progress, stop
        As for `fit`.

    Raises
    ------
    ValueError
        Bad options, or too few points.
    """
    # Without spheres: where tiles overlap their difference must be asked a million times, see `join`.
    chosen = dataclasses.replace(_chosen(preset, whole.support, margin, lam, len(points)), spheres=False)
    target, begun, rng = resolve_device(device), time.perf_counter(), np.random.default_rng(seed)
    tell: Progress = progress if progress is not None else lambda *_: None
    tell("sides", 0, 1, {})
    distinct = np.unique(points, axis=0)
    kept = distinct[inliers(distinct)]
    outliers = len(distinct) - len(kept)
    frame = Frame(region.center, 0.5 * region.longest)
    noise, level, normals = 0.0, 0.0, None
    if smooth:
        kept, noise, level = cleared(kept, rng)
    if noise:
        normals = outward(kept, lambda x: -whole(x)) if whole.support == "solid" else None
        kept = denoised(kept, noise, normals)
    unit, beyond = frame.to_unit(kept), frame.to_unit(others)
    if whole.support == "solid":
        room = max(USED_POINTS - len(beyond), USED_POINTS // 2)
        few = unit[some_of(len(unit), room, rng)]
        sides = sides_by(
            lambda x: -whole(frame.to_world(x)) / frame.scale,
            np.concatenate([few, beyond]),
            resolved / frame.scale,
            rng,
        )
    else:
        sides = Sides("shell", "as the whole", None)
    lower, upper = frame.to_unit(region.lower), frame.to_unit(region.upper)
    settings = {"points": len(points), "read": len(points), "outliers": outliers}
    clean = Sided(kept, level, normals, frame, sides)
    given = _Given(clean, lower, upper, settings, 0.0, begun, beyond)
    return _learnt(given, chosen, preset, None, seed, rng, target, tell, stop, None, None, None)


@dataclasses.dataclass(frozen=True, eq=False)
class _Given:
    """What is learnt from: a clean cloud and its sides, B in the unit frame."""

    clean: Sided
    lower: Floats
    upper: Floats
    settings: dict[str, Any]
    load: float  # seconds
    loaded: float  # when that was
    others: Floats | None = None  # points of the surface beyond B


def _learnt(
    given: _Given,
    chosen: Preset,
    preset: str | Preset,
    level: float | None,
    seed: int,
    rng: np.random.Generator,
    target: torch.device,
    tell: Progress,
    stop: Callable[[], bool] | None,
    watch: Watch | None,
    keeper: Keeper | None,
    start: Standing | None,
) -> SDF:
    """Train, certify, find the level; parameters as for `fit`."""
    kept, noise, _, frame, sides = given.clean
    unit, lower, upper = frame.to_unit(kept), given.lower, given.upper
    generator = torch.Generator(device=target).manual_seed(seed)
    skin = None
    if sides.support == "shell" and chosen.skin:
        skin = skin_of(unit, rng)
    told = sides if skin is None else dataclasses.replace(sides, inside=skin)
    material = source_of(chosen, told, unit, lower, upper, rng, generator, target)
    config = chosen.solid if sides.support == "solid" else chosen.shell
    dense = sides.support == "solid" and len(unit) > DENSE_POINTS and noise == 0.0
    if dense and chosen.dense is not None:
        config = chosen.dense
    wires = sides.support == "solid" and on_wires(unit)
    if wires and chosen.wires is not None:
        config = chosen.wires
    known = None
    if config.touch or config.touch_start or config.away:
        cloud, others = given.clean._replace(sides=told), given.others
        known = known_of(chosen, cloud, lower, upper, rng, generator, target, wires=wires, others=others)
    if keeper is not None:
        fixed = {**material.fixed, **({} if known is None else known.fixed)}
        keeper.require(digest_of(fixed))
    tell("sides", 1, 1, {})
    sided = time.perf_counter()

    network = LipschitzNetwork(chosen.network, torch.Generator().manual_seed(seed)).to(target)
    history = History()

    def field_so_far() -> SDF:
        trained = time.perf_counter() - sided
        sdf = SDF.proved(
            certify(network)[0],
            frame,
            Box(frame.to_world(lower), frame.to_world(upper)),
            level=0.0,
            support=sides.support,
            support_reason=sides.reason,
            settings={
                "preset": preset if isinstance(preset, str) else "own",
                "seed": seed,
                **given.settings,
                "noise": noise,
                "train": dataclasses.asdict(config),
                "version": 1,
            },
            history=_record(history, given.load, sided - given.loaded, trained, start),
        )
        if level is not None:
            return dataclasses.replace(sdf, level=float(level))
        if skin is not None:
            return dataclasses.replace(sdf, level=LEVEL)
        return dataclasses.replace(sdf, level=level_of(-sdf(kept) / frame.scale, QUANTILES[sides.support]))

    def report(done: int, total: int, figures: dict[str, float]) -> None:
        tell("train", done, total, figures)
        if watch is not None:
            watch(field_so_far)

    learn(
        network,
        material,
        config,
        torch.as_tensor(lower, dtype=torch.float32, device=target),
        torch.as_tensor(upper, dtype=torch.float32, device=target),
        generator,
        known=known,
        history=history,
        report=report,
        stop=stop,
        keep=keeper,
        start=start,
    )
    sdf = field_so_far()
    if not chosen.spheres:
        return sdf
    tell("spheres", 0, 1, {})
    sdf = held(sdf, unit, sides.inside, lower, upper, np.random.default_rng(seed), dense=dense, wires=wires)
    tell("spheres", 1, 1, {})
    return sdf


def reconstruct(source: Any, *, resolution: int = 200, **options: Any) -> trimesh.Trimesh:
    """Return the closed mesh of points or of a mesh, in its colours: `fit(source).mesh(resolution)`, painted.

    Parameters
    ----------
    source
        As for `fit`.
    resolution : int
        Grid nodes along the longest side.
    **options
        Of `fit`.
    """
    shape = read_within(source, options.get("seed", 0))
    mesh = fit(shape, **options).mesh(resolution=resolution)
    paint(mesh, shape)
    return mesh


def memory_needed(points: int, pool: int) -> float:
    """Peak of `fit` beyond what the program takes by itself, an estimate that costs nothing [bytes].

    Most of it are the tetrahedra of the points that the sides use, 20 kB a point. A rocker arm of 2,048
    points took 0.38 GB, of 100,000 0.93 GB.
    """
    return 4e8 + 20e3 * min(points, USED_POINTS) + 500.0 * points + 150.0 * pool


def _chosen(
    preset: str | Preset, support: str, margin: float | None, lam: float | None, points: int | None
) -> Preset:
    """Return the preset with the caller's margin and λ in it."""
    if isinstance(preset, str) and preset not in PRESETS:
        raise ValueError(f"`preset` must be one of {', '.join(PRESETS)}; got {preset!r}.")
    if support not in ("auto", "solid", "shell"):
        raise ValueError(f"`support` must be auto, solid or shell; got {support!r}.")
    if points is not None and points < 16:
        raise ValueError(f"`points` must be at least 16; got {points}.")
    chosen = PRESETS[preset] if isinstance(preset, str) else preset

    def with_options(config: TrainConfig) -> TrainConfig:
        changes: dict[str, float] = {}
        if margin is not None:
            changes.update(margin=margin, margin_start=margin * config.margin_start / config.margin)
        if lam is not None:
            changes.update(lam=lam, lam_start=lam * config.lam_start / config.lam)
        return dataclasses.replace(config, **changes)  # type: ignore[arg-type]

    return chosen.with_each(with_options)


def _cloud(shape: trimesh.Trimesh | PointCloud, points: int | None, rng: np.random.Generator) -> Floats:
    """Return the points to learn from, (n, 3) float64 [world units]."""
    if isinstance(shape, trimesh.Trimesh):
        return surface_points(shape, MESH_POINTS if points is None else points, rng)[0]
    return shape.points if points is None else shape.points[some_of(len(shape), points, rng)]


def _hash_of(shape: trimesh.Trimesh | PointCloud) -> str:
    """Return the SHA-256 of what is learnt from, however it was stored."""
    if isinstance(shape, PointCloud):
        return hash_of_arrays(shape.points, shape.normals)
    return hash_of_arrays(np.asarray(shape.vertices), np.asarray(shape.faces))


def _record(
    history: History, load: float, sides: float, trained: float, start: Standing | None
) -> dict[str, Any]:
    """Return the history as plain numbers; of a run that went on with all its training."""
    resumed = {} if start is None else {"resumed": start.steps}
    return {
        "steps": history.steps,
        "interrupted": history.interrupted,
        "seconds": {"load": load, "sides": sides, "train": trained + (start.seconds if start else 0.0)},
        "curves": history.curves,
        **resumed,
    }

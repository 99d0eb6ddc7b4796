"""The detector under scikit-learn's own checks, its certificate, its options, and tables with categories."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np
import pytest
import torch

sklearn = pytest.importorskip("sklearn")
from sklearn.base import clone  # noqa: E402
from sklearn.exceptions import NotFittedError  # noqa: E402
from sklearn.model_selection import cross_val_predict  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import MinMaxScaler  # noqa: E402
from sklearn.utils.estimator_checks import parametrize_with_checks  # noqa: E402

from ocsdf3d.lipschitz.certificate import CertificateError  # noqa: E402
from ocsdf3d.oneclass import auroc  # noqa: E402
from ocsdf3d.oneclass.attack import attacked_scores  # noqa: E402
from ocsdf3d.oneclass.estimator import PRESETS, OneClassSDF, StrangeRowsWarning  # noqa: E402
from ocsdf3d.oneclass.scaling import far_off  # noqa: E402


@parametrize_with_checks([OneClassSDF(preset="fast", random_state=0)])
def test_scikit_learns_own_checks(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.fixture(scope="module")
def table() -> np.ndarray:
    """300 rows in two columns of very different scale and place."""
    return np.random.default_rng(0).normal(size=(300, 2)) * (1.0, 1e3) + (5.0, -1e5)


@pytest.fixture(scope="module")
def detector(table: np.ndarray) -> OneClassSDF:
    return OneClassSDF(preset="fast", random_state=0).fit(table)


@pytest.fixture(scope="module")
def judged(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fresh rows of the same kind, and anomalies in a ring around them, with labels."""
    rng = np.random.default_rng(1)
    angle = rng.uniform(0.0, 2.0 * np.pi, 100)
    ring = rng.uniform(2.5, 5.0, (100, 1)) * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    rows = np.concatenate([rng.normal(size=(200, 2)), ring]) * (1.0, 1e3) + (5.0, -1e5)
    return rows, np.repeat([1, -1], [200, 100])


# --- what it finds


@pytest.mark.parametrize("mark", [999999.0, -1e30])
def test_a_mark_of_missing_values_blinds_nothing(mark: float, table: np.ndarray) -> None:
    """Counted in, it makes the deviation of its column a thousand times that of the others."""
    marked = np.concatenate([table[:150], [[mark, -1e5]], table[150:]])
    with pytest.warns(UserWarning, match=r"1 of 301 rows .* in column 0 from 0, row 150"):
        found = OneClassSDF(preset="fast", random_state=0).fit(marked)
    plain = OneClassSDF(preset="fast", random_state=0).fit(table)
    assert found.n_strange_ == 1
    assert plain.n_strange_ == 0
    assert np.array_equal(found.scale_, plain.scale_)
    assert found.margin_ == plain.margin_
    assert np.array_equal(found.score_samples(table), plain.score_samples(table))
    assert found.predict(marked)[150] == -1
    assert found.predict([[5.0, -1e5], [5.0 + 5.0, -1e5]]).tolist() == [1, -1]


@pytest.mark.parametrize("mark", [-3.4028235e38, 1.7e308])
def test_marks_beyond_float32_and_a_share_of_outliers(mark: float, table: np.ndarray) -> None:
    """Neither the scale nor the threshold asks for the score of such a row; it counts as rejected."""
    marked = np.concatenate([table, [[mark, -1e5]] * 3])
    with pytest.warns(StrangeRowsWarning, match="3 of 303 rows"):
        found = OneClassSDF(preset="fast", contamination=0.1, random_state=0).fit(marked)
    rejected = int((found.predict(table) == -1).sum()) + 3
    assert rejected == pytest.approx(0.1 * 303, abs=1.0)
    with pytest.warns(StrangeRowsWarning):
        found.set_params(contamination=0.005).fit(marked)
    assert (found.predict(table) == 1).all()


def test_the_column_of_a_mark_is_named(table: np.ndarray) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(np.concatenate([table, [[5.0, 1e12]]]), columns=["length", "mass"])
    with pytest.warns(StrangeRowsWarning, match="The first is 1e.12 in column 'mass', row 300"):
        OneClassSDF(preset="fast", steps=3, random_state=0).fit(frame)


def test_rows_that_are_merely_far_are_learnt_from() -> None:
    """A rare value of a column that hardly varies, and tails as long as tables have them."""
    rng = np.random.default_rng(0)
    rows = np.stack([rng.standard_t(2, 2000), (rng.random(2000) < 0.01) * 1e6], axis=1)
    assert not far_off(rows).any()
    far = far_off(np.concatenate([rows, [[1e4, 7e6]]]))  # nothing is absurd in a column of equal numbers
    assert np.argwhere(far).tolist() == [[2000, 0]]
    assert not far_off(np.array([[0.0], [1e300]])).any()
    assert not far_off(np.array([[5.0], [6.0], [7.0], [1e9]])).any()


def test_it_tells_a_ring_from_the_cloud_inside(detector: OneClassSDF, judged: Any) -> None:
    rows, labels = judged
    scores = detector.score_samples(rows)
    assert auroc(scores[labels == 1], scores[labels == -1]) > 0.95  # 0.98 by the true density
    assert (detector.predict(rows) == np.where(scores >= 0.0, 1, -1)).all()


def test_contamination_is_the_share_it_rejects(table: np.ndarray) -> None:
    for share in (0.02, 0.1, 0.5):
        found = OneClassSDF(preset="fast", contamination=share, random_state=0).fit(table)
        assert (found.predict(table) == -1).mean() == pytest.approx(share, abs=1.0 / len(table))
        np.testing.assert_array_equal(
            found.decision_function(table), found.score_samples(table) - found.offset_
        )


def test_a_score_does_not_depend_on_the_rows_beside_it(detector: OneClassSDF, judged: Any) -> None:
    rows, _ = judged
    whole = detector.score_samples(rows)
    np.testing.assert_array_equal(whole[:7], detector.score_samples(rows[:7]))
    np.testing.assert_array_equal(whole[::-1], detector.score_samples(rows[::-1]))


def test_what_was_learnt_until_a_stop_is_certified(table: np.ndarray, detector: OneClassSDF) -> None:
    asked = iter([False, True])
    found = OneClassSDF(preset="fast", random_state=0).fit(table, stop=lambda: next(asked))
    assert found.n_iter_ == 2 * PRESETS["fast"].report < detector.n_iter_
    assert (found.history_["interrupted"], detector.history_["interrupted"]) == (True, False)
    assert found.certificate_.lipschitz <= 1.0
    assert (found.certified_radius(table) > 0.0).any()
    whole = OneClassSDF(preset="fast", random_state=0).fit(table, stop=lambda: False)
    np.testing.assert_array_equal(whole.score_samples(table), detector.score_samples(table))


def test_units_of_the_columns_do_not_matter(table: np.ndarray, detector: OneClassSDF) -> None:
    other = OneClassSDF(preset="fast", random_state=0).fit(table * (1e-3, 1e-3) + (0.0, 1e2))
    scores = other.score_samples(table * (1e-3, 1e-3) + (0.0, 1e2))
    # the standardised rows agree to rounding, and training makes a little more of it
    np.testing.assert_allclose(scores, detector.score_samples(table), atol=0.05)


def test_the_margin_reaches_the_training(table: np.ndarray) -> None:
    shares = [
        (OneClassSDF(margin=margin, preset="fast", random_state=0).fit(table).predict(table) == 1).mean()
        for margin in (0.05, 1.0)
    ]
    assert shares[0] != shares[1]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_learns(preset: str, table: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    short = replace(PRESETS[preset], steps=30, warm=10)
    monkeypatch.setitem(PRESETS, preset, short)
    found = OneClassSDF(preset=preset, random_state=0).fit(table)
    assert found.n_iter_ == 30
    assert found.certificate_.lipschitz <= 1.0
    assert np.ptp(found.score_samples(table)) > 0.0


def test_a_large_lam_follows_what_the_default_rounds_off() -> None:
    """Rows on a ring of deviation 0.05, judged at points 0.25 to 0.5 inside it, where none of them is."""
    rng = np.random.default_rng(0)

    def ring(radius: np.ndarray) -> np.ndarray:
        angle = rng.uniform(0.0, 2.0 * np.pi, len(radius))
        return radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)

    rows, inside = ring(rng.normal(1.0, 0.05, 500)), ring(rng.uniform(0.5, 0.75, 500))
    smooth = OneClassSDF(random_state=0).fit(rows)
    sharp = OneClassSDF(margin=0.05, lam=1000.0, steps=600, random_state=0).fit(rows)
    assert sharp.n_iter_ == 600
    accepted = [(one.predict(inside) == 1).mean() for one in (smooth, sharp)]
    assert accepted[1] < 0.05 < accepted[0]
    assert (sharp.predict(rows) == 1).mean() > 0.9


# --- scikit-learn's world


def test_it_works_in_a_pipeline_in_clones_and_across_folds(table: np.ndarray) -> None:
    model = make_pipeline(MinMaxScaler(), OneClassSDF(preset="fast", random_state=0))
    again = clone(model)
    first, second = model.fit(table).score_samples(table), again.fit(table).score_samples(table)
    np.testing.assert_array_equal(first, second)
    folds = cross_val_predict(model, table, cv=3, method="predict")
    assert set(folds) <= {-1, 1}
    assert folds.shape == (300,)


def test_it_survives_pickling_and_joblib(detector: OneClassSDF, judged: Any) -> None:
    joblib = pytest.importorskip("joblib")
    rows, _ = judged
    expected = detector.score_samples(rows)
    stream = io.BytesIO()
    joblib.dump(detector, stream)
    stream.seek(0)
    for copy in (pickle.loads(pickle.dumps(detector)), joblib.load(stream)):
        np.testing.assert_array_equal(copy.score_samples(rows), expected)
        np.testing.assert_array_equal(copy.certified_radius(rows), detector.certified_radius(rows))


def test_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    rows = np.random.default_rng(0).normal(size=(50, 3))
    OneClassSDF(
        preset="fast", random_state=0, progress=lambda done, total, figures: told.append((done, total))
    ).fit(rows)
    assert told[-1] == (PRESETS["fast"].steps, PRESETS["fast"].steps)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


# --- what it proves


def test_no_decision_flips_within_its_radius(detector: OneClassSDF, judged: Any) -> None:
    rows, _ = judged
    radius, before = detector.certified_radius(rows), detector.predict(rows)
    assert (radius > 0.0).mean() > 0.9
    rng = np.random.default_rng(2)
    for _ in range(20):
        way = rng.normal(size=rows.shape)
        way /= np.linalg.norm(way, axis=1, keepdims=True)
        moved = rows + 0.999 * radius[:, None] * way * detector.scale_
        certain = radius > 0.0
        assert (detector.predict(moved)[certain] == before[certain]).all()
    # towards the boundary along the gradient, twice as far: the worst attack does flip some
    attacked = np.concatenate(
        [
            attacked_scores(detector, rows[[i]], [before[i]], 3.0 * float(radius[i]), restarts=0)
            for i in np.flatnonzero(before == 1)[:10]
        ]
    )
    assert (attacked < detector.offset_).any()


def test_the_attacked_auroc_lies_between_the_certified_and_the_clean(
    detector: OneClassSDF, judged: Any
) -> None:
    rows, labels = judged
    radii = [0.0, 0.1, 0.3, 1.0]
    certified = detector.certify(rows, labels, radii)
    assert (np.diff(certified) < 0.0).all()
    clean = detector.score_samples(rows)
    for radius, bound in zip(radii, certified, strict=True):
        scores = attacked_scores(detector, rows, labels, radius)
        assert bound <= auroc(scores[labels == 1], scores[labels == -1])
        assert auroc(scores[labels == 1], scores[labels == -1]) <= auroc(
            clean[labels == 1], clean[labels == -1]
        )
    assert auroc(scores[labels == 1], scores[labels == -1]) < 0.9  # it is an attack


def test_an_attack_stays_in_its_ball_and_uses_it(detector: OneClassSDF, judged: Any) -> None:
    """|f(x + δ) − f(x)| ≤ ε bounds what it can change, and it changes most of that where f has slope."""
    rows, labels = judged
    change = (attacked_scores(detector, rows, labels, 0.2) - detector.score_samples(rows)) * -labels
    assert (change >= -1e-6).all()  # never to the defender's favour
    assert change.max() <= 0.2 + 1e-5
    assert np.median(change) > 0.1


def test_scores_are_as_precise_under_autocast(detector: OneClassSDF, judged: Any) -> None:
    rows, labels = judged
    scores, radii = detector.score_samples(rows), detector.certified_radius(rows)
    attacked = attacked_scores(detector, rows[-5:], labels[-5:], 0.1, steps=2, restarts=0)
    with torch.autocast("cpu"):
        np.testing.assert_array_equal(detector.score_samples(rows), scores)
        np.testing.assert_array_equal(detector.certified_radius(rows), radii)
        again = attacked_scores(detector, rows[-5:], labels[-5:], 0.1, steps=2, restarts=0)
    np.testing.assert_array_equal(again, attacked)


def test_a_refit_that_is_interrupted_leaves_no_detector(table: np.ndarray) -> None:
    """Half of the one fit and half of the other had radii that nothing proved."""
    found = OneClassSDF(preset="fast", steps=5, random_state=0).fit(table)

    def stop_here(*_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        found.set_params(progress=stop_here).fit(50.0 * table + 1000.0)
    with pytest.raises(NotFittedError):
        found.certified_radius(table)


def test_the_default_dtype_of_torch_changes_nothing(table: np.ndarray) -> None:
    def scores() -> np.ndarray:
        return OneClassSDF(preset="fast", steps=3, random_state=0).fit(table).score_samples(table)

    plain = scores()
    torch.set_default_dtype(torch.float64)
    try:
        np.testing.assert_array_equal(scores(), plain)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(("size", "place"), [(1e-13, 0.0), (1e-160, 0.0), (1e160, 0.0), (2e-6, 1e7)])
def test_what_varies_counts_whatever_its_unit(size: float, place: float) -> None:
    rows = np.random.default_rng(0).normal(size=(300, 2))
    found = OneClassSDF(preset="fast", random_state=0).fit(size * rows + place)
    np.testing.assert_allclose(found.scale_, size * rows.std(axis=0), rtol=1e-3)
    far = size * np.array([[0.0, 0.0], [7.0, 0.0], [0.0, -7.0]]) + place
    assert found.predict(far).tolist() == [1, -1, -1]


def test_numbers_beyond_what_is_computed_with_are_refused(detector: OneClassSDF) -> None:
    with pytest.raises(ValueError, match=r"1e.39 standard deviations from the mean: too far for float32"):
        detector.certified_radius([detector.mean_ + np.array([1e39, 0.0]) * detector.scale_])
    with pytest.raises(ValueError, match=r"column 1 of `X` holds numbers as large as 1e.308"):
        OneClassSDF(preset="fast").fit([[0.0, -1e308], [1.0, 1e308], [2.0, 0.0]])


def test_a_changed_network_proves_nothing(detector: OneClassSDF, judged: Any) -> None:
    import torch

    rows, labels = judged
    spoilt = pickle.loads(pickle.dumps(detector))
    with torch.no_grad():
        spoilt.network_.head.mul_(2.0)
    for ask in (lambda: spoilt.certified_radius(rows), lambda: spoilt.certify(rows, labels, 0.1)):
        with pytest.raises(CertificateError):
            ask()


# --- what is refused


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"margin": 0.0}, "`margin` must be auto or a finite number above 0; got 0.0"),
        ({"margin": np.inf}, "`margin` must be"),
        ({"margin": "wide"}, "`margin` must be"),
        ({"contamination": 0.0}, r"`contamination` must be auto or in \(0, 0.5\]; got 0.0"),
        ({"contamination": 0.6}, "`contamination` must be"),
        ({"contamination": np.nan}, "`contamination` must be"),
        ({"lam": -1.0}, "`lam` must be auto or a finite number above 0; got -1.0"),
        ({"steps": 0}, "`steps` must be auto or a whole number of at least 1; got 0"),
        ({"steps": 2.5}, "`steps` must be auto"),
        ({"preset": "huge"}, "`preset` must be one of fast, default, fine, paper; got 'huge'"),
        ({"device": "tpu"}, "`device` must be auto, cpu or cuda; got 'tpu'"),
    ],
)
def test_options_that_are_none_are_refused(options: dict[str, Any], said: str, table: np.ndarray) -> None:
    with pytest.raises(ValueError, match=said):
        OneClassSDF(**options).fit(table)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([[1.0, np.nan], [0.0, 1.0]], "NaN"),
        ([[1.0, np.inf], [0.0, 1.0]], "infinity"),
        ([[1.0, 2.0]], "minimum of 2"),
        ([["a", "b"], ["c", "d"]], "could not convert string"),
        ([1.0, 2.0, 3.0], "Expected 2D array"),
    ],
)
def test_rows_that_are_no_numbers_are_refused(rows: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        OneClassSDF(preset="fast").fit(rows)


def test_sparse_rows_are_refused_clearly() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(TypeError, match=r"[Ss]parse"):
        OneClassSDF(preset="fast").fit(sparse.csr_matrix(np.eye(5)))


def test_other_columns_than_those_of_fit_are_refused(detector: OneClassSDF) -> None:
    with pytest.raises(ValueError, match="expecting 2 features"):
        detector.predict(np.zeros((3, 4)))


def test_constant_columns_do_no_harm() -> None:
    rng = np.random.default_rng(0)
    rows = np.column_stack([rng.normal(size=100), np.full(100, 7.3), np.full(100, 1e9 + 0.1)])
    found = OneClassSDF(preset="fast", random_state=0).fit(rows)
    assert (found.scale_[1:] == 1.0).all()
    assert np.isfinite(found.score_samples(rows)).all()
    moved = rows + np.array([0.0, 50.0, 0.0])
    assert (found.predict(moved) == -1).all()  # a column that never varied, and does now


@pytest.mark.parametrize("labels", [[1, 0], [1, -1, 1], [[1], [-1]], ["a", "b"]])
def test_labels_that_are_none_are_refused(detector: OneClassSDF, labels: Any) -> None:
    with pytest.raises(ValueError, match="must hold 2 labels"):
        detector.certify(np.zeros((2, 2)), labels, 0.1)
    with pytest.raises(ValueError, match="must hold 2 labels"):
        attacked_scores(detector, np.zeros((2, 2)), labels, 0.1)


@pytest.mark.parametrize(
    ("options", "said"),
    [({"radius": -0.1}, "`radius`"), ({"radius": 0.1, "steps": 0}, "`steps`")],
)
def test_attacks_that_are_none_are_refused(
    detector: OneClassSDF, table: np.ndarray, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        attacked_scores(detector, table, np.ones(len(table)), **options)


# --- tables with names and categories


def frame(n: int = 200, seed: int = 0) -> Any:
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(seed)
    return pandas.DataFrame(
        {
            "length": rng.normal(size=n),
            "kind": pandas.Categorical(rng.choice(["bolt", "nut"], n)),
            "new": rng.random(n) < 0.5,
        }
    )


def test_categories_become_columns_of_their_own() -> None:
    rows = frame()
    found = OneClassSDF(preset="fast", random_state=0).fit(rows)
    assert found.n_features_in_ == 1 + 2 + 2
    assert set(found.feature_names_in_) == {"length", "kind=bolt", "kind=nut", "new=True", "new=False"}
    assert np.isfinite(found.score_samples(rows)).all()
    turned = rows.iloc[::-1]
    np.testing.assert_array_equal(found.score_samples(turned), found.score_samples(rows)[::-1])


def test_a_category_counts() -> None:
    rows = frame()
    rows["kind"] = ["bolt"] * 199 + ["nut"]
    rows["kind"] = rows["kind"].astype("category")
    found = OneClassSDF(preset="fast", random_state=0).fit(rows)
    scores = found.score_samples(rows)
    assert (scores[:-1] > scores[-1]).mean() > 0.9  # the only nut is odd


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda rows: rows.assign(kind=["screw"] * len(rows)), "categories that fit has not seen: screw"),
        (lambda rows: rows.assign(kind=[None] * len(rows)), "column 'kind' has missing values"),
        (lambda rows: rows[["length", "kind"]], "DataFrame with the 3 columns of fit"),
        (lambda rows: rows.to_numpy(), "DataFrame with the 3 columns of fit"),
        (lambda rows: rows.rename(columns={"length": "width"}), "feature names"),
        (lambda rows: rows.assign(length=["long"] * len(rows)), "could not convert string"),
    ],
)
def test_tables_unlike_that_of_fit_are_refused(spoil: Any, said: str) -> None:
    rows = frame()
    found = OneClassSDF(preset="fast", random_state=0).fit(rows)
    with pytest.raises(ValueError, match=said):
        found.predict(spoil(rows))


@pytest.mark.parametrize("name", ["new", "kind=nut"])
def test_two_columns_of_one_name_are_refused(name: str) -> None:
    rows = frame().assign(new=1.0).set_axis([name, "kind", "new"], axis=1)
    with pytest.raises(ValueError, match=f"two columns of X would bear the name '{name}'"):
        OneClassSDF(preset="fast").fit(rows)


def test_tables_of_other_libraries_are_arrays() -> None:
    class Other:
        """Named and typed columns, as of polars, and no `iloc`."""

        columns, dtypes = ("a", "b"), (float, float)
        shape = (40, 2)

        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            return np.random.default_rng(0).normal(size=self.shape)

    found = OneClassSDF(preset="fast", steps=3, random_state=0).fit(Other())
    assert found.columns_ is None
    assert len(found.score_samples(Other())) == 40


def test_text_that_is_no_category_is_refused() -> None:
    rows = frame()
    with pytest.raises(ValueError, match="could not convert string"):
        OneClassSDF(preset="fast").fit(rows.assign(length=["long"] * len(rows)))

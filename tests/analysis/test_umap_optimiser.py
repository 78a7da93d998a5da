import numpy as np
import pytest

from analysis.layouts import curve
from analysis.umap_optimiser import Edges, _list_draws, optimise

CURVES = [(1.577, 0.895), (0.583, 1.334), (0.115, 1.929)]


def ring(n=30, *, seed=0):
    """Neighbours on a ring, both ways, and some chords, with rates in (0, 1]."""
    rng = np.random.default_rng(seed)
    pairs = {(i, (i + 1) % n) for i in range(n)} | {(int(a), int(b)) for a, b in rng.integers(0, n, (20, 2)) if a < b}
    pairs = sorted({(min(p), max(p)) for p in pairs})
    rates = rng.uniform(0.05, 1, len(pairs))
    rates[0] = 1
    edges = sorted(
        [(a, b, r) for (a, b), r in zip(pairs, rates, strict=True)]
        + [(b, a, r) for (a, b), r in zip(pairs, rates, strict=True)]
    )
    heads, tails, rates = (np.array(column) for column in zip(*edges, strict=True))
    return Edges(heads.astype(np.int32), tails.astype(np.int32), rates.astype(np.float32))


def begin(n=30):
    return np.random.default_rng(1).uniform(0, 10, (n, 2)).astype(np.float32)


def umap_draws(rates, epochs):
    """umap-learn's bookkeeping: epoch, edge, random points."""
    every = 1 / rates.astype(np.float64)
    every_negative = every / 5
    due, negative_due = every.copy(), every_negative.copy()
    for epoch in range(epochs):
        for edge in range(len(rates)):
            if due[edge] <= epoch:
                due[edge] += every[edge]
                negatives = int((epoch - negative_due[edge]) / every_negative[edge])
                negative_due[edge] += negatives * every_negative[edge]
                yield epoch, edge, negatives


@pytest.mark.parametrize(("first", "last"), [(0, 60), (0, 7), (7, 8), (31, 60)])
def test_draws_are_those_of_umap_learn(first, last):
    rates = np.random.default_rng(3).uniform(0.02, 1, 200).astype(np.float32)
    rates[:2] = 1
    expected = [draw for draw in umap_draws(rates, last) if draw[0] >= first]
    per_epoch = np.bincount([epoch - first for epoch, _, _ in expected], minlength=last - first)
    drawn, negatives = np.empty(len(expected), np.int32), np.empty(len(expected), np.int8)
    _list_draws(rates, first, last, np.cumsum(per_epoch) - per_epoch, drawn, negatives)
    assert [tuple(pair) for pair in zip(drawn, negatives, strict=True)] == [(e, k) for _, e, k in expected]


def plain(start, edges, a, b, *, epochs, seed, alpha=1.0, fixed=0):
    """The same moves, one number after another."""
    points, n = start.astype(np.float64), fixed or len(start)
    states = [int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])] * len(start)
    for epoch, edge, negatives in umap_draws(edges.rates, epochs):
        step = alpha * (1 - max(epoch - 1, 0) / epochs)
        head, tail = edges.heads[edge], edges.tails[edge]
        apart = points[head] - points[tail]
        d2 = apart @ apart
        move = np.clip(-2 * a * b * d2 ** (b - 1) / (a * d2**b + 1) * apart, -4, 4) if d2 > 0 else 0
        points[head] += step * move
        if not fixed:
            points[tail] -= step * move
        total = np.zeros(2)
        for drawn in range(negatives):
            if drawn == 6:
                points[head], total = points[head] + step * total, np.zeros(2)
            states[head] = (states[head] * 6364136223846793005 + 1442695040888963407) % 2**64
            apart = points[head] - points[(states[head] >> 32) * n >> 32]
            d2 = apart @ apart
            if d2 > 0:
                total += np.clip(2 * b / ((0.001 + d2) * (a * d2**b + 1)) * apart, -4, 4)
        points[head] += step * total
    return points


@pytest.mark.parametrize("options", [{"alpha": 0.1}, {"alpha": 0.1, "fixed": 12}])
def test_moves_are_those_of_plain_arithmetic(options):
    edges = ring()
    if "fixed" in options:
        moving = edges.heads >= 12
        edges = Edges(edges.heads[moving], edges.tails[moving], edges.rates[moving])
    made = optimise(begin(), edges, CURVES, epochs=6, seed=5, **options)
    for layout, (a, b) in zip(made, CURVES, strict=True):
        expected = plain(begin(), edges, a, b, epochs=6, seed=5, **options)
        np.testing.assert_allclose(layout, expected, atol=2e-3)
        assert np.abs(layout - begin()).max() > 0.3
    if "fixed" in options:
        np.testing.assert_array_equal(made[0][:12], begin()[:12])


def test_a_lane_does_not_depend_on_the_others():
    edges = ring()
    together = optimise(begin(), edges, CURVES, epochs=200, seed=5)
    for layout, shape in zip(together, CURVES, strict=True):
        [alone] = optimise(begin(), edges, [shape], epochs=200, seed=5)
        np.testing.assert_array_equal(alone, layout)


def test_drawing_ahead_changes_nothing(monkeypatch):
    edges = ring()
    whole = optimise(begin(), edges, CURVES, epochs=50, seed=5)
    monkeypatch.setattr("analysis.umap_optimiser._SAMPLES_AHEAD", 100)
    np.testing.assert_array_equal(optimise(begin(), edges, CURVES, epochs=50, seed=5), whole)


def test_points_on_one_spot_stay_finite():
    start = np.zeros((30, 2), dtype=np.float32)
    [layout] = optimise(start, ring(), [curve(0.0)], epochs=20, seed=0)
    # umap-learn, too, does not move what has no direction to go.
    np.testing.assert_array_equal(layout, start)


def test_at_most_eight_at_once():
    with pytest.raises(ValueError, match="1 to 8 layouts at once, not 9"):
        optimise(begin(), ring(), CURVES * 3, epochs=1, seed=0)

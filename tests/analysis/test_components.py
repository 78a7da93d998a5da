import numpy as np
import pytest
from sklearn.decomposition import PCA

from analysis.components import principal_components


def test_agrees_with_scikit_learn_up_to_sign():
    vectors = np.random.default_rng(0).normal(size=(40, 7)).astype(np.float32) * np.arange(1, 8, dtype=np.float32)
    reference = PCA(2, svd_solver="full").fit_transform(vectors.astype(np.float64))
    places = principal_components(vectors)
    np.testing.assert_allclose(np.abs(places), np.abs(reference), atol=1e-6)
    assert (places[np.abs(places).argmax(axis=0), [0, 1]] > 0).all()
    # And no component is mirrored in part.
    for column in range(2):
        assert abs(np.corrcoef(places[:, column], reference[:, column])[0, 1]) == pytest.approx(1)


@pytest.mark.parametrize("n", [1, 2])
def test_few_vectors_have_places(n):
    places = principal_components(np.eye(n, 5, dtype=np.float32))
    assert places.shape == (n, 2)
    assert np.isfinite(places).all()
    assert places[:, 1] == pytest.approx(0, abs=1e-6)

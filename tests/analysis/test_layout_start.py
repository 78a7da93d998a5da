import numpy as np
import pytest
from scipy.sparse import block_diag, csr_array
from sklearn.manifold import SpectralEmbedding
from sklearn.metrics import pairwise_kernels

from analysis.layout_start import start_of_layouts
from tests.worlds import mixed


def agrees(column, expected):
    return abs(np.corrcoef(column, expected)[0, 1]) > 0.999


@pytest.mark.parametrize("n", [240, 600])
def test_agrees_with_sklearn(n):
    vectors = np.random.default_rng(0).normal(size=(n, 3)) * [3, 2, 1]
    memberships = pairwise_kernels(vectors, metric="rbf", gamma=0.1)
    np.fill_diagonal(memberships, 0)
    expected = SpectralEmbedding(2, affinity="precomputed", random_state=0).fit_transform(memberships)
    # It divides by the root of the degree, to which umap-learn keeps.
    expected *= np.sqrt(memberships.sum(axis=0))[:, None]
    start = start_of_layouts(vectors, csr_array(memberships), seed=0)
    assert (start.min(), start.max(), start.dtype) == (0, 10, np.float32)
    assert agrees(start[:, 0], expected[:, 0])
    assert agrees(start[:, 1], expected[:, 1])


def test_a_graph_in_pieces_starts_from_principal_components():
    vectors = mixed().vectors
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    centred = unit - unit.mean(axis=0)
    components = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
    start = start_of_layouts(vectors, csr_array(block_diag([np.ones((120, 120))] * 2)), seed=0)
    assert agrees(start[:, 0], components[:, 0])
    assert agrees(start[:, 1], components[:, 1])


@pytest.mark.parametrize("vectors", [np.ones((20, 3)), np.linspace(1, 2, 20)[:, None]])
def test_vectors_that_are_all_alike_are_parted_by_noise(vectors):
    start = start_of_layouts(vectors, csr_array((20, 20)), seed=0)
    assert np.isfinite(start).all()
    assert len(np.unique(start, axis=0)) == 20

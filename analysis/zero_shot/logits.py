"""From vectors of images and prompts to logits of classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from analysis.arrays import FloatArray, IntArray


def unit(vectors: FloatArray) -> FloatArray:
    """Return vectors ``(n, d)`` brought to length one; a zero vector stays one."""
    wide = np.asarray(vectors, dtype=np.float64)
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    scaled: FloatArray = wide / np.where(norms == 0, 1, norms)
    return scaled


def ensemble(prompts: FloatArray, classes: IntArray, n_classes: int) -> FloatArray:
    """Return one vector of length one for each class: the mean over its prompts, each of length one.

    Parameters
    ----------
    prompts
        ``(m, d)``.
    classes
        ``(m,)`` codes; every class has a prompt.
    n_classes
        Number of classes.

    Returns
    -------
    ndarray
        ``(n_classes, d)``.

    References
    ----------
    Radford et al., arXiv:2103.00020, section 3.1.4; ``clip_benchmark.metrics.zeroshot_classification``.
    """
    return unit(class_means(unit(prompts), classes, n_classes))


def class_means(prompts: FloatArray, classes: IntArray, n_classes: int) -> FloatArray:
    """Mean over the prompts of each class, ``(n_classes, d)``."""
    sums = np.zeros((n_classes, prompts.shape[1]))
    np.add.at(sums, classes, prompts)
    means: FloatArray = sums / np.bincount(classes, minlength=n_classes)[:, None]
    return means


def cosine_logits(images: FloatArray, classes: FloatArray, scale: float, bias: float = 0.0) -> FloatArray:
    """Logits ``(n, classes)`` as in training: cosine × scale + bias."""
    logits: FloatArray = scale * (unit(images) @ classes.T) + bias
    return logits


def published_logits(images: FloatArray, classes: FloatArray) -> FloatArray:
    """Inner products ``(n, classes)`` of vectors as they are, none brought to length one.

    References
    ----------
    Sadman, Zulkernine & Kwan, arXiv:2506.14136: their rule predicts every label whose logit is above 0. As cosines of
    an image with medical texts hardly ever are below 0, it predicts nearly all of them.
    """
    logits: FloatArray = np.asarray(images, dtype=np.float64) @ np.asarray(classes, dtype=np.float64).T
    return logits


def softmax(logits: FloatArray) -> FloatArray:
    """Probabilities over classes, ``(n, classes)``."""
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: FloatArray = raised / raised.sum(axis=1, keepdims=True)
    return probabilities


def sigmoid(logits: FloatArray) -> FloatArray:
    """Probability of each class by itself."""
    from scipy.special import expit

    probabilities: FloatArray = expit(logits)
    return probabilities

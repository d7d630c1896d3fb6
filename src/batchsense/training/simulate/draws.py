"""Rows of minibatches for many replicas of a run at once, by each way of sampling."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from batchsense.training.temperature.setting import SgdSetting


class MinibatchDraws:
    """Draw the rows of the next minibatch of every replica, independently between replicas.

    The setting's learning rate and momentum play no part.

    >>> setting = SgdSetting(0.1, 2, examples=4, sampling="epoch")
    >>> draws = MinibatchDraws(setting, 1, np.random.default_rng(0))
    >>> sorted(np.concatenate([draws.rows(2)[0], draws.rows(2)[0]]).tolist())
    [0, 1, 2, 3]
    """

    def __init__(self, setting: SgdSetting, replicas: int, rng: np.random.Generator) -> None:
        assert setting.examples is not None
        self._sampling, self._examples = setting.sampling, setting.examples
        self._replicas, self._rng = replicas, rng
        self._order = np.tile(np.arange(self._examples), (replicas, 1))
        self._at = self._examples

    def rows(self, batch_size: int) -> npt.NDArray[np.int64]:
        """Give the rows of one minibatch, shape (replicas, batch_size).

        An epoch's last rows are left out where they do not fill a minibatch.
        """
        if self._sampling == "replacement":
            return self._rng.integers(self._examples, size=(self._replicas, batch_size))
        if self._sampling == "per_step":
            keys = self._rng.random((self._replicas, self._examples))
            return np.argpartition(keys, batch_size - 1, axis=1)[:, :batch_size]
        if self._at + batch_size > self._examples:
            self._order, self._at = self._rng.permuted(self._order, axis=1), 0
        taken = self._order[:, self._at : self._at + batch_size]
        self._at += batch_size
        return taken

"""The multi-cluster sampler in training, against the run-time readout's oracle."""

from __future__ import annotations

import numpy as np
import torch

from tests.oracle import NumpyLabelReadout
from vcedge.models.affinity import reconstruct
from vcedge.models.readout import LabelReadout
from vcedge.training.clusters import cluster_bias
from vcedge_runtime.predictors.reader import Source, TileReader
from vcedge_runtime.propagation.fusion import fuse_joint
from vcedge_runtime.sampling.clusters import ClusterSettings
from vcedge_runtime.sampling.sampling import ClusterSampler

SIDE, KEY_DIM, CHANNELS = 12, 16, 3


def test_training_reads_what_the_run_time_sampler_reads() -> None:
    rng = np.random.default_rng(0)
    smooth = np.kron(rng.standard_normal((2, 2, KEY_DIM)), np.ones((6, 6, 1)))
    keys = (smooth + 0.4 * rng.standard_normal((3, SIDE, SIDE, KEY_DIM))).astype(np.float32)
    labels = rng.dirichlet(np.ones(CHANNELS), (3, SIDE, SIDE)).astype(np.float32)
    settings = ClusterSettings(clusters=3, radius_max=4, reach=9)
    sampler = ClusterSampler(settings, 4, 3, (SIDE, SIDE), KEY_DIM)
    sampling = sampler.sample(0, [1, 2], keys)
    engine = NumpyLabelReadout(LabelReadout(KEY_DIM, second_window=True).spec)
    reader = TileReader({"cluster_readout": engine}, (SIDE, SIDE), 9, 2, tile=5)
    reader.resize(CHANNELS)
    readout = reader.read(Source(keys[0], keys, labels, [1, 2]), sampling, reader.all_tiles)
    expected = np.zeros((SIDE, SIDE, CHANNELS), np.float32)
    reader.lay_out(reader.all_tiles, fuse_joint(readout), expected)
    clip = torch.from_numpy(keys).permute(0, 3, 1, 2)[None]
    carried = torch.from_numpy(labels).permute(0, 3, 1, 2)[None]
    bias = cluster_bias(clip, 0, settings)
    found = reconstruct(clip[:, 0], clip[:, 1:], carried[:, 1:], bias)
    # FP32 sums of up to 288 terms in another order.
    np.testing.assert_allclose(found[0].permute(1, 2, 0).numpy(), expected, atol=1e-5)
    assert bias.shape == (1, SIDE**2, 2 * SIDE**2)

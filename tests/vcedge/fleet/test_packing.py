"""A bundle as bytes is the bundle again where it is unpacked, for as long as it is needed."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

from vcedge.fleet.packing import at_hand, digest_bundle, pack_bundle
from vcedge_runtime.model.bundle import Bundle


def test_a_packed_bundle_is_the_same_bundle_elsewhere_and_leaves_nothing(
    tiny_bundle: Bundle,
) -> None:
    packed = pickle.loads(pickle.dumps(pack_bundle(tiny_bundle)))
    with at_hand(str(tiny_bundle.folder), packed) as model:
        found = Bundle.open(model)
        assert found.folder != tiny_bundle.folder
        assert replace(found, folder=tiny_bundle.folder) == tiny_bundle
        assert digest_bundle(model) == digest_bundle(str(tiny_bundle.folder))
    assert not Path(model).exists()


def test_a_bundle_that_is_not_packed_is_opened_where_it_is() -> None:
    with at_hand("srnet-lite", None) as model:
        assert model == "srnet-lite"

"""The network of first masks as it is exported."""

from __future__ import annotations

from torch import Tensor

from vcedge.models.encoder import fold_batch_norm
from vcedge.models.graph import GraphModule
from vcedge.models.prompts import PromptNetwork
from vcedge_runtime.model.prompt_composition import GRAPH, PLANES
from vcedge_runtime.model.spec import GraphSpec, TensorSpec


class PromptGraph(GraphModule):
    """``prompt_segmenter``: a view of a frame and what is said of an object, to its mask.

    Its numbers are rounded to those that FP16 has, as those of weights' files are: a wheel is then
    smaller by a third of the graph.
    """

    def __init__(self, network: PromptNetwork) -> None:
        super().__init__()
        self._network = fold_batch_norm(network)
        for parameter in self._network.parameters():
            parameter.data = parameter.data.half().float()

    @property
    def spec(self) -> GraphSpec:
        """The graph's tensors."""
        return GraphSpec(
            GRAPH,
            (
                TensorSpec("image", "float32", (1, 3, "H", "W")),
                TensorSpec("prompts", "float32", (1, len(PLANES), "H", "W")),
            ),
            (TensorSpec("logits", "float32", (1, "H", "W")),),
        )

    def forward(self, image: Tensor, prompts: Tensor) -> Tensor:
        """See ``spec``."""
        found: Tensor = self._network(image, prompts)
        return found

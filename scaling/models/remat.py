"""What the backward pass keeps of a block, by `model.remat`; the rest is computed again.

Names are given to arrays where they are made, with `checkpoint_name`: "projection" in `layers.py`,
"attention" in `attention.py`, "stream" (the input of a block) in `blocks.py`. `blocks.py` and
`pipeline.py` pass the policy to jax.checkpoint.
"""

from collections.abc import Callable

import jax

_KEPT = {"dots": ("projection",), "attention": ("attention",), "full": ()}


def policy(remat: str, *also: str) -> Callable[..., bool]:
    """The policy of every `model.remat` but "none"; `also` are further names to keep.

    - dots: keeps the results of the projections.
    - offload: the same, in the host's memory until they are needed.
    - attention: keeps what attention gives and what its own backward pass needs of it, so that
      everything is computed again but the part that grows with the square of the length.
    - full: keeps nothing.
    """
    if remat == "offload":
        return jax.checkpoint_policies.save_and_offload_only_these_names(
            names_which_can_be_saved=list(also),
            names_which_can_be_offloaded=list(_KEPT["dots"]),
            offload_src="device",
            offload_dst="pinned_host",
        )
    return jax.checkpoint_policies.save_only_these_names(*_KEPT[remat], *also)

"""What a run is and what varies between runs: frozen dataclasses and pure functions of them. In
come
`configs/*.py` and flags, out go RunConfigs with nothing left open (`resolve`), their names and
hashes (`identity`), amounts (`amounts`), programs (`programs`), and lists of them (`sweep`). What a
family of models, a kind of data, an objective is: `choices`. No jax.
"""

from scaling.config.identity import fingerprint, run_name
from scaling.config.reading import (
    base_config,
    eval_set,
    flat,
    form_of,
    from_dict,
    is_debug,
    left_out,
    override,
    to_dict,
    to_identity,
)
from scaling.config.run import (
    LENGTHS,
    AttackConfig,
    AugmentConfig,
    BeginsConfig,
    DataConfig,
    DistillConfig,
    DistributedConfig,
    EvalsConfig,
    EvalSetConfig,
    EwcConfig,
    FederatedConfig,
    MeshConfig,
    MixtureConfig,
    ModelConfig,
    ObjectiveConfig,
    OptimConfig,
    PrivacyConfig,
    RunConfig,
    TrainConfig,
    TransformConfig,
)

__all__ = [
    "LENGTHS",
    "AttackConfig",
    "AugmentConfig",
    "BeginsConfig",
    "DataConfig",
    "DistillConfig",
    "DistributedConfig",
    "EvalSetConfig",
    "EvalsConfig",
    "EwcConfig",
    "FederatedConfig",
    "MeshConfig",
    "MixtureConfig",
    "ModelConfig",
    "ObjectiveConfig",
    "OptimConfig",
    "PrivacyConfig",
    "RunConfig",
    "TrainConfig",
    "TransformConfig",
    "base_config",
    "eval_set",
    "fingerprint",
    "flat",
    "form_of",
    "from_dict",
    "is_debug",
    "left_out",
    "override",
    "run_name",
    "to_dict",
    "to_identity",
]

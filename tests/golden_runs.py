"""Runs whose names are stored beside those of configs/ and experiments/ (`tests/golden.py`): each
is a config file and dotted overrides, and together they move every field that is part of a run's
identity. Only names and values: any version of the code can be asked for them.
"""

from typing import Any

from scaling.config import LENGTHS

_EXPERTS = "configs/moe.py:debug"
_TINY = "configs/tiny.py:debug"
_LM = "configs/lm.py:debug"
_BERT = "configs/bert.py:debug"
_VISION = "configs/vision.py:debug"
_SCENES = "configs/scenes.py:debug"
_KNOWLEDGE = "configs/knowledge.py:debug"
_SPEECH = "configs/speech.py:debug"
_BPE = {"data.tokenizer": "bpe", "data.bpe_vocab": 512, "model.vocab": 512}


def _length(**given: Any) -> dict[str, Any]:
    """The length of the run, in place of the config's."""
    return {f"train.{name}": given.get(name) for name in LENGTHS}


# What is said of a run -> (config, overrides).
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    # ---- the model
    "wide and deep": (_LM, {"model.width": 64, "model.depth": 3, "model.heads": 4}),
    "shared keys": (_LM, {"model.heads": 4, "model.kv_heads": 2}),
    "heads of their own width": (_LM, {"model.head_dim": 24}),
    "plain mlp": (_LM, {"model.mlp": "plain"}),
    "width of the mlp": (_LM, {"model.mlp_width": 80}),
    "vocabulary": (_LM, {"model.vocab": 300}),
    "untied": (_LM, {"model.tie_embeddings": False}),
    "no norm of queries and keys": (_LM, {"model.qk_norm": False}),
    "softcap": (_LM, {"model.logit_softcap": 30.0}),
    "rotary base": (_LM, {"model.rope_theta": 5e5}),
    "interpolated positions": (_LM, {"model.rope_length": 128}),
    "frequencies divided": (
        _LM,
        {"model.rope_scaling.kind": "linear", "model.rope_scaling.factor": 2.0},
    ),
    "frequencies divided as in Llama 3.1": (
        _LM,
        {
            **{"model.rope_scaling.kind": "llama3", "model.rope_scaling.factor": 8.0},
            **{"model.rope_scaling.low": 2.0, "model.rope_scaling.high": 8.0},
            "model.rope_scaling.length": 64,
        },
    ),
    "learned positions": (_LM, {"model.positions": "learned", "model.places": 64}),
    "layer norms": (_LM, {"model.norm": "layer"}),
    "biases of queries, keys and values": (_LM, {"model.biases": "qkv"}),
    "biases": (_LM, {"model.biases": "all"}),
    "imported": (
        _LM,
        {
            **{"imported": "0123456789ab", "data.tokenizer": "imported"},
            **{"data.tokenizer_file": "json-0123456789ab", "model.vocab": 512},
        },
    ),
    "no positions": (_LM, {"model.positions": "none"}),
    "bidirectional": (_BERT, {"data.seq_len": 64}),
    "norms behind the sums": (_BERT, {"model.norms": "behind"}),
    "exact gelu": (_BERT, {"model.activation": "gelu_exact"}),
    "biases of tokens": (_BERT, {"model.token_bias": True}),
    "tables of positions": (_BERT, {"model.positions": "learned", "model.places": 32}),
    "label from the first token": ("configs/bert.py:packages_debug", {"model.pool": "class"}),
    "whole words": (_BERT, {"objective.whole_words": True}),
    "a token that masks": (_BERT, {"model.mask_row": False, "objective.mask_token": 3}),
    "more masked": (_BERT, {"objective.share": 0.4, "objective.masked": 1.0}),
    "spans left out": (
        "configs/pairs.py:debug",
        {"data.kind": "denoising", "data.source": "stdlib", "data.seq_len": 40},
    ),
    "longer spans left out": (
        "configs/pairs.py:debug",
        {
            **{"data.kind": "denoising", "data.source": "stdlib", "data.seq_len": 64},
            **{"data.share": 0.3, "data.span": 6.0},
        },
    ),
    "two passages": (
        _BERT,
        {
            "data.kind": "passages",
            "objective.name": "masked_passages",
            "objective.follows": 0.5,
        },
    ),
    "tagged": ("configs/bert.py:tokens_debug", {}),
    "labels in an order": ("configs/bert.py:names_debug", {"data.labels": "german,english"}),
    "labelled by others' tokens": (
        "configs/bert.py:names_debug",
        {
            **{"data.tokenizer": "imported", "data.tokenizer_file": "json-0123456789ab"},
            **{"model.vocab": 512},
        },
    ),
    "pairs of others' tokens": (
        "configs/pairs.py:debug",
        {
            **{"data.tokenizer": "imported", "data.tokenizer_file": "json-0123456789ab"},
            **{"model.vocab": 512},
        },
    ),
    "names of languages": ("configs/bert.py:names_debug", {"data.unique_examples": 64}),
    "questions": ("configs/bert.py:spans_debug", {"data.seq_len": 256}),
    "tasks by their sizes": (
        "configs/multitask.py:debug",
        {"data.temperature": 3.0, "data.unique_examples": 64, "model.uncertainty": True},
    ),
    "two tasks, one more often": (
        "configs/multitask.py:debug",
        {
            **{"data.source": "tagged=tokens,text=stdlib", "data.weights": "1,3"},
            **{f"evals.sets.{name}.split": "validation" for name in ("tagged", "text")},
            **{f"evals.sets.{name}.part": "tagged" for name in ("labelled", "questions")},
        },
    ),
    "linear biases": (_LM, {"model.positions": "alibi"}),
    "initial scale": (_LM, {"model.init_scale": 0.5}),
    "epsilon of norms": (_LM, {"model.norm_eps": 1e-5}),
    "bfloat16": (_LM, {"model.dtype": "bfloat16"}),
    "int8": (_LM, {"model.dtype": "bfloat16", "model.matmul": "int8"}),
    "fp8": (_LM, {"model.dtype": "bfloat16", "model.matmul": "fp8"}),
    "window": (_LM, {"model.window": 8}),
    # ---- experts
    "one expert a token": (_EXPERTS, {"model.moe.per_token": 1}),
    "more and narrower experts": (_EXPERTS, {"model.moe.experts": 8, "model.moe.width": 24}),
    "shared expert": (_EXPERTS, {"model.moe.shared": 1}),
    "slots": (_EXPERTS, {"model.moe.capacity_factor": 1.25}),
    "experts choose": (
        _EXPERTS,
        {"model.moe.router": "expert_choice", "objective.load_balance": 0.0},
    ),
    "experts choose more": (
        _EXPERTS,
        {
            "model.moe.router": "expert_choice",
            "model.moe.capacity_factor": 2.0,
            "objective.load_balance": 0.0,
        },
    ),
    "other router losses": (_EXPERTS, {"objective.load_balance": 0.1, "objective.router_z": 0.0}),
    # ---- the data
    "text files": (_LM, {"data.source": "text:texts/*.txt"}),
    "text files, a part falls away": (_TINY, {"data.source": "text:texts/*.txt"}),
    "part": (_LM, {"data.part": "docs"}),
    "bpe": (_LM, _BPE),
    "long windows": (_LM, {"data.seq_len": 1024}),
    "attention across documents": (_LM, {"data.mask_documents": False}),
    "few distinct tokens": (_LM, {"data.unique_tokens": 4096}),
    "few distinct tokens, others": (_LM, {"data.unique_tokens": 4096, "train.subset_seed": 1}),
    "held out": (_LM, {"data.validation_fraction": 0.1}),
    "seed of the data": (_LM, {"data.seed": 7}),
    "seed": (_LM, {"seed": 3}),
    "seed of the parameters alone": (_TINY, {"seed": 3}),
    "secrets": (
        _LM,
        {"data.canaries": 2, "data.seq_len": 64, "evals.sets.x": {"by": "exposure"}},
    ),
    "secrets less often": (
        _LM,
        {
            **{"data.canaries": 2, "data.canary_repeats": 16, "data.seq_len": 64},
            "evals.sets.x": {"by": "exposure", "repeats": 4},
        },
    ),
    "from inside": (
        _TINY,
        {"evals.sets.x": {"by": "induction"}, "evals.sets.y": {"by": "lens", "blocks": 1}},
    ),
    # ---- the objective
    "z loss": (_LM, {"objective.z_loss": 1e-4}),
    "smoothed targets": (_LM, {"objective.label_smoothing": 0.1}),
    # ---- transforms
    "low rank": (_LM, {"transform.name": "lora", "transform.rank": 4}),
    "low rank of some": (_LM, {"transform.name": "lora", "transform.modules": "query,value"}),
    "prefix": (_LM, {"transform.name": "prefix_tuning", "transform.length": 4}),
    "prefix of some": (
        "configs/bert.py:names_debug",
        {
            **{"transform.name": "prefix_tuning", "transform.modules": "blocks"},
            "transform.also": "pooler,head",
        },
    ),
    "frozen": (_LM, {"transform.name": "freeze"}),
    "biases and gains alone": (
        _LM,
        {"transform.name": "freeze", "transform.only": "bias,scale"},
    ),
    "pruned": (
        _LM,
        {"transform.name": "prune", "transform.sparsity": 0.75, "transform.modules": "blocks"},
    ),
    "pruned by and by": (
        _LM,
        {"transform.name": "prune", "transform.begin": 0.1, "transform.end": 0.5},
    ),
    "pruned two of four": (_LM, {"transform.name": "prune", "transform.group": 4}),
    "a lottery ticket": (
        _LM,
        {
            **{"transform.name": "prune", "transform.rewind": True},
            "begins.run": "0123456789ab",
        },
    ),
    "a ticket of a later step": (
        _LM,
        {
            **{"transform.name": "prune", "transform.rewind": True},
            **{"transform.rewind_to": "begun", "begins.run": "0123456789ab"},
        },
    ),
    "four bits": (_LM, {"transform.name": "qat", "transform.bits": 4}),
    # ---- other runs
    "begun": (_LM, {"begins.run": "0123456789ab"}),
    "begun in part": (_LM, {"begins.run": "0123456789ab", "begins.new": "mlp"}),
    "distilled": (_LM, {"begins.run": "0123456789ab", "distill.weight": 0.5}),
    "distilled softly from its start": (
        _LM,
        {
            **{"begins.run": "0123456789ab", "distill.weight": 0.9},
            **{"distill.temperature": 2.0, "distill.begin": True},
        },
    ),
    "distilled the other way around": (
        _LM,
        {
            **{"begins.run": "0123456789ab", "distill.weight": 0.5},
            "distill.divergence": "reverse",
        },
    ),
    "distilled by states and on its own text": (
        _LM,
        {
            **{"begins.run": "0123456789ab", "distill.weight": 0.9, "distill.features": 0.5},
            **{"distill.on_policy": 0.5, "distill.prompt": 4},
            **{"distill.divergence": "jsd", "distill.beta": 0.1},
        },
    ),
    "held on to": (_LM, {"begins.run": "0123456789ab", "ewc.weight": 100.0}),
    "held on to otherwise": (
        _LM,
        {
            **{"begins.run": "0123456789ab", "ewc.weight": 10.0},
            **{"ewc.batches": 8, "ewc.decay": 0.9},
        },
    ),
    "mixed": (_TINY, {"mixture.shares.docs": 0.1, "evals.sets.docs.split": "validation"}),
    "mixed with few": (
        _TINY,
        {
            **{"mixture.shares.docs": 0.1, "evals.sets.docs.split": "validation"},
            "mixture.memory": 64,
        },
    ),
    # ---- the optimizer
    "adafactor": (_LM, {"optim.name": "adafactor", "optim.eps": 1e-7}),
    "lion": (_LM, {"optim.name": "lion", "optim.b1": 0.9, "optim.b2": 0.99}),
    "sgd": (_LM, {"optim.name": "sgd", "optim.b1": 0.8, "optim.weight_decay": 0.0}),
    "muon": (_LM, {"optim.name": "muon", "optim.b1": 0.95}),
    "adagrad": (_LM, {"optim.name": "adagrad"}),
    "schedule-free": (_LM, {"optim.name": "schedule_free", "optim.schedule": "constant"}),
    "mup": (_LM, {"optim.parametrization": "mup", "optim.base_width": 16}),
    "depth mup": (
        _LM,
        {"optim.parametrization": "depth_mup", "optim.base_width": 16, "optim.base_depth": 1},
    ),
    "completep": (
        _LM,
        {"optim.parametrization": "completep", "optim.base_width": 16, "optim.base_depth": 1},
    ),
    "moments": (_LM, {"optim.b1": 0.95, "optim.b2": 0.999, "optim.eps": 1e-10}),
    "learning rate": (_LM, {"optim.peak_lr": 1e-3, "optim.final_lr_fraction": 0.0}),
    "wsd": (_LM, {"optim.schedule": "wsd", "optim.decay_fraction": 0.5}),
    "linear": (_LM, {"optim.schedule": "linear"}),
    "rsqrt": (_LM, {"optim.schedule": "rsqrt"}),
    "constant": (_LM, {"optim.schedule": "constant"}),
    "warm-up in steps": (_LM, {"optim.warmup_fraction": None, "optim.warmup_steps": 3}),
    "warm-up as a share": (_LM, {"optim.warmup_fraction": 0.5}),
    "decay on its own": (_LM, {"optim.independent_weight_decay": True, "optim.weight_decay": 1e-4}),
    "no clipping": (_LM, {"optim.clip_norm": None}),
    "ema": (_LM, {"optim.ema_decay": 0.99}),
    # ---- the length
    "steps": (_LM, _length(steps=1_000_000)),
    "tokens": (_LM, _length(tokens=1e6)),
    "epochs": (_LM, _length(epochs=0.5) | {"data.unique_tokens": 65_536}),
    "flops": (_LM, _length(flops=1e12)),
    "tokens a parameter": (_LM, _length(tokens_per_param=20.0)),
    "units": (_LM, _length(units=2e6)),
    "units a parameter": (_LM, _length(units_per_param=30.0)),
    "tokens a parameter, experts": (_EXPERTS, _length(tokens_per_param=20.0)),
    "flops, experts": (_EXPERTS, _length(flops=1e12)),
    "batch": (_LM, {"train.batch_size": 16}),
    # ---- what training does by itself
    "spikes": (_LM, {"train.spike_z": 6.0, "train.spike_window": 32}),
    # ---- regularizers and augmentation
    "dropout": (_LM, {"model.dropout": 0.1}),
    "stochastic depth": (_LM, {"model.drop_path": 0.1}),
    "l1": (_LM, {"optim.l1": 1e-4}),
    "l2": (_LM, {"optim.l2": 1e-4}),
    "images with noise": (_VISION, {"augment.noise": 0.1}),
    "images turned": (_VISION, {"augment.rotation": 10.0}),
    "images coloured": (_VISION, {"augment.color": 0.2}),
    "images scaled": (_VISION, {"augment.scale": 0.1}),
    "images mixed": (_VISION, {"augment.mixup": 0.2}),
    "images cut and mixed": (_VISION, {"augment.cutmix": 1.0}),
    "federated": (_VISION, {"federated.clients": 20, "federated.per_round": 4}),
    "federated, unlike clients": (
        _VISION,
        {
            **{"federated.clients": 20, "federated.per_round": 4, "federated.local_steps": 2},
            **{"federated.local_lr": 0.3, "federated.skew": 0.5},
        },
    ),
    "private": (_VISION, {"privacy.clip_norm": 1.0}),
    "less private": (
        _VISION,
        {"privacy.clip_norm": 0.5, "privacy.noise": 0.5, "privacy.delta": 1e-4},
    ),
    "attacked": (_VISION, {"attack.epsilon": 0.1}),
    "attacked in steps": (_VISION, {"attack.epsilon": 0.1, "attack.steps": 5}),
    "an attacked set": (
        _VISION,
        {"evals.sets.moved": {"by": "attack", "epsilon": 0.2, "steps": 1}},
    ),
    "a set attacked in steps": (_VISION, {"evals.sets.moved": {"by": "attack"}}),
    "dropped features": (_VISION, {"model.dropout": 0.1}),
    "patches": (_VISION, {"model.family": "vit"}),
    "short pairs": ("configs/pairs.py:debug", {"data.source": "names:en-de", "data.longest": 24}),
    "reading by place": ("configs/pairs.py:debug", {"model.reading_positions": True}),
    "drawn letters": (
        "configs/pairs.py:debug",
        {"data.source": "names:en-de", "data.hallucinated": 0.5},
    ),
    "dropped pairs": ("configs/pairs.py:debug", {"model.dropout": 0.1}),
    "a pointer": ("configs/pairs.py:debug", {"model.pointer": True}),
    "relative positions": ("configs/pairs.py:debug", {"model.positions": "relative"}),
    "fewer distances": (
        "configs/pairs.py:debug",
        {"model.positions": "relative", "model.buckets": 16, "model.distance": 32},
    ),
    "scores and logits scaled otherwise": (
        "configs/pairs.py:debug",
        {"model.scale_scores": False, "model.scale_head": True, "model.activation": "relu"},
    ),
    "frozen statistics": (
        _VISION,
        {"model.family": "resnet", "model.order": "post", "model.norm": "frozen"},
    ),
    "centred kernels": (_VISION, {"model.family": "resnet", "model.padding": "centred"}),
    "patches, exact gelu": (
        _VISION,
        {"model.family": "vit", "model.activation": "gelu_exact"},
    ),
    "patches as a set": (_VISION, {"model.family": "vit", "model.positions": "none"}),
    "convolutions": (_VISION, {"model.family": "convnet", "model.block": "plain"}),
    "convolutions without norms": (
        _VISION,
        {"model.family": "convnet", "model.block": "plain", "model.norm": "none"},
    ),
    "inverted bottlenecks": (_VISION, {"model.family": "convnet", "model.activation": "silu"}),
    "rows of blocks": (
        _VISION,
        {
            **{"model.family": "convnet", "model.stages": "plain c16, c16 n2 s2"},
            **{"model.multiple": 4, "model.group": 8, "model.hidden": 16},
        },
    ),
    "two views": (
        _VISION,
        {
            **{"model.family": "convnet", "model.classes": 8, "model.head_width": 16},
            **{"objective.name": "contrastive_views", "objective.temperature": 0.2},
        },
    ),
    "quarter turns": (
        _VISION,
        {"model.classes": 4, "objective.name": "rotation_prediction"},
    ),
    "hidden patches": (
        _VISION,
        {"model.family": "masked_autoencoder", "objective.name": "masked_patches"},
    ),
    "images of a class": ("configs/gan.py:debug", {"model.conditional": True}),
    "larger images": (_VISION, {"data.side": 12}),
    "mixed patches": (_VISION, {"model.family": "mixer"}),
    "columns": (_VISION, {"model.family": "lstm_classifier"}),
    "wrong labels": (_VISION, {"data.label_noise": 0.2}),
    "wrong labels, looked at": (
        _VISION,
        {"data.label_noise": 0.2, "evals.sets.wrong": {"split": "flipped"}},
    ),
    "pixels in another order": (_VISION, {"data.permutation": 1}),
    "two labels": (_VISION, {"data.labels": "0,1"}),
    "a set in another order": (_VISION, {"evals.sets.other": {"permutation": 2}}),
    "a set of two labels": (_VISION, {"evals.sets.other": {"labels": "2,3"}}),
    "blurred": (_VISION, {"data.corruption": "blur", "data.severity": 2}),
    "a blurred set": (_VISION, {"evals.sets.blurred": {"corruption": "blur"}}),
    "a set blurred more": (
        _VISION,
        {"evals.sets.blurred": {"corruption": "blur", "severity": 5}},
    ),
    "speech, coarser": (_SPEECH, {"model.subsampling": 1, "model.bands": 20, "model.filters": 8}),
    "speech, plain": (_SPEECH, {"model.mlp": "plain", "model.qk_norm": False}),
    "recordings": (_SPEECH, {"data.source": "librispeech:own", "data.utterances": None}),
    "another rate, no noise": (_SPEECH, {"data.sample_rate": 16000, "data.noise": 0.0}),
    "few utterances": (_SPEECH, {"data.unique_utterances": 16, "data.validation_fraction": 0.3}),
    "few shots": (_VISION, {"evals.sets.probe": {"by": "features", "shots": 4}}),
    "last tokens": (_LM, {"model.family": "feedforward"}),
    "two towers, sigmoid": (_SCENES, {"objective.loss": "sigmoid", "model.bias": -10.0}),
    "two towers, otherwise": (
        _SCENES,
        {"model.embedding": 32, "model.temperature": 0.1, "model.stem": 0, "model.patch": 8},
    ),
    "captions of two languages": (_SCENES, {"data.source": "digits:en-de"}),
    "few scenes": (_SCENES, {"data.unique_scenes": 64, "data.validation_scenes": 100}),
    "images with captions": (
        _SCENES,
        {"data.source": "folder:own", "data.validation_fraction": 0.2},
    ),
    "questions about scenes": ("configs/scenes.py:questions_debug", {"model.fusion": "gated"}),
    # ---- facts
    "other people": (
        _KNOWLEDGE,
        {
            **{"data.people": 60, "data.strangers": 8, "data.symbols": 32, "data.name_tokens": 2},
            **{"data.attributes": 4, "data.values": 16, "data.task_seed": 1},
        },
    ),
    "some of the people": (_KNOWLEDGE, {"data.unique_examples": 100}),
    "facts looked up": (
        "configs/knowledge.py:retrieval_debug",
        {"data.retrieved": 3, "data.misses": 0.2},
    ),
    "fewer questions": ("configs/knowledge.py:territories_debug", {"data.held_out": 0.5}),
    "distances as they are": ("configs/knowledge.py:transe_debug", {"model.temperature": 1.0}),
    "margins": (
        "configs/knowledge.py:transe_debug",
        {"objective.loss": "margin", "objective.negatives": 8, "objective.margin": 2.0},
    ),
    "products": ("configs/knowledge.py:distmult_debug", {"model.width": 16}),
    "more of the graph held out": (
        "configs/knowledge.py:distmult_debug",
        {"data.validation_fraction": 0.2, "data.task_seed": 1, "data.unique_triples": 500},
    ),
    # ---- evaluation
    "answers": (_LM, {"evals.sets.right": {"by": "answers"}}),
    "rhythm of the evaluation": (
        _LM,
        {"evals.every": None, "evals.batches": 3, "evals.batch_size": 4},
    ),
    "one set more": (_LM, {"evals.sets.docs": {"part": "docs", "split": "all"}}),
    "a set of another source": (_LM, {"evals.sets.own": {"source": "text:own/*.txt"}}),
    "a set of the training data": (_LM, {"evals.sets.seen": {"split": "train"}}),
    "a set otherwise": (_TINY, {"evals.sets.docs.split": "validation"}),
    "the start too": (_LM, {"evals.at_start": True}),
    "continuations": (_LM, {"evals.sets.next": {"by": "generate"}}),
    "copies": (_LM, {"evals.sets.next": {"by": "generate", "copies": True}}),
    "short continuations": (_LM, {"evals.sets.next": {"by": "generate", "prompt": 9}}),
    "a probe of labels": (_VISION, {"evals.sets.probe": {"by": "features", "fit_batches": 4}}),
    "another probe": (_VISION, {"evals.sets.probe": {"by": "features", "ridge": 1e-2}}),
    # ---- many at once
    "a large model of everything": (
        "configs/dense.py:1.3b",
        {
            "model.moe.experts": 16,
            "model.moe.shared": 2,
            "model.window": 1024,
            "model.tie_embeddings": False,
            "optim.schedule": "wsd",
            "optim.ema_decay": 0.9999,
            "objective.z_loss": 1e-4,
            "train.spike_z": 8.0,
            "seed": 11,
        },
    ),
    "the largest": ("configs/dense.py:8b", {}),
    "the second": ("configs/dense.py:350m", {}),
}

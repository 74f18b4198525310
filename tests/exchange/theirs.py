"""What the real transformers does, run by the Python of an environment that has it.

    python theirs.py make FOLDER   a random model of each folder's name, saved
    python theirs.py read FOLDER   each model that is there

A folder <name> has what the model is to read, batch.npz; what it says is written as outputs.npz.
Tokenizers are made too, and what they cut `vocabularies.texts` into is written as ids.json.
"""

import json
import pathlib
import sys

import numpy as np
import torch
import transformers as hf
import vocabularies

SIZES = {
    **{"vocab_size": 260, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "bos_token_id": 256},
    **{"eos_token_id": 256, "max_position_embeddings": 32},
}
SMALL = {"vocab_size": 260, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 16}
ENCODER = SIZES | {"intermediate_size": 24, "max_position_embeddings": 16}
RESNET = {"embedding_size": 4, "num_channels": 3, "num_labels": 5}
T5 = {
    **{"vocab_size": 260, "d_model": 16, "d_kv": 6, "d_ff": 24, "num_layers": 2, "num_heads": 4},
    **{"num_decoder_layers": 3, "relative_attention_num_buckets": 8},
    **{"relative_attention_max_distance": 9},
}
MODELS = {
    "llama": hf.LlamaConfig(**SIZES, rms_norm_eps=1e-5, rope_theta=500.0),
    "llama_tied": hf.LlamaConfig(**SIZES, tie_word_embeddings=True, head_dim=6),
    "mistral": hf.MistralConfig(**SIZES, sliding_window=5),
    "qwen2": hf.Qwen2Config(**SIZES),
    "qwen3": hf.Qwen3Config(**SIZES, head_dim=6),
    "mixtral": hf.MixtralConfig(**SIZES, num_local_experts=3, num_experts_per_tok=2),
    "qwen3_moe": hf.Qwen3MoeConfig(
        **SIZES,
        **{"head_dim": 6, "num_experts": 3, "num_experts_per_tok": 2},
        **{"moe_intermediate_size": 12, "norm_topk_prob": True},
    ),
    "gpt2": hf.GPT2Config(**SMALL, bos_token_id=256, eos_token_id=256),
    "llama_bfloat16": hf.LlamaConfig(**SIZES, dtype=torch.bfloat16),
    "llama_long": hf.LlamaConfig(
        **SIZES,
        rope_parameters={
            **{"rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.5},
            **{"high_freq_factor": 3.0, "original_max_position_embeddings": 16},
        },
    ),
    "qwen3_long": hf.Qwen3Config(
        **SIZES,
        head_dim=6,
        rope_parameters={"rope_type": "linear", "rope_theta": 1e4, "factor": 3.0},
    ),
    "bert_tokens": hf.BertConfig(**ENCODER),
    "bert_passages": hf.BertConfig(**ENCODER, hidden_act="relu"),
    "bert_label": hf.BertConfig(**ENCODER, num_labels=3),
    "bert_tags": hf.BertConfig(**ENCODER, hidden_act="gelu_new"),
    "bert_spans": hf.BertConfig(**ENCODER),
    "resnet": hf.ResNetConfig(**RESNET, hidden_sizes=[16, 32], depths=[3, 1]),
    "resnet_basic": hf.ResNetConfig(
        **RESNET, hidden_sizes=[4, 8], depths=[1, 2], layer_type="basic"
    ),
    "t5": hf.T5Config(**T5),
    "t5_gated": hf.T5Config(**T5, feed_forward_proj="gated-gelu", tie_word_embeddings=False),
    "vit": hf.ViTConfig(**ENCODER, image_size=[8, 12], patch_size=4, num_labels=5),
}
CLASSES = {
    "bert_tokens": hf.BertForMaskedLM,
    "bert_passages": hf.BertForPreTraining,
    "bert_label": hf.BertForSequenceClassification,
    "bert_tags": hf.BertForTokenClassification,
    "bert_spans": hf.BertForQuestionAnswering,
    "vit": hf.ViTForImageClassification,
    "resnet": hf.ResNetForImageClassification,
    "resnet_basic": hf.ResNetForImageClassification,
    "t5": hf.T5ForConditionalGeneration,
    "t5_gated": hf.T5ForConditionalGeneration,
}


TOKENIZERS = {"bert_tokens": hf.BertTokenizerFast, "t5": hf.T5TokenizerFast}


def cut(name, path):
    """Saves a tokenizer, and the tokens of the texts without what is put around each: by the class
    that reads any file, and by that of its own kind.
    """
    texts = vocabularies.texts()
    TOKENIZERS[name](tokenizer_object=vocabularies.MADE[name](texts)).save_pretrained(path)
    found = {}
    for what, kind in (("file", hf.PreTrainedTokenizerFast), ("kind", TOKENIZERS[name])):
        tokenizer = kind.from_pretrained(path)
        ids = tokenizer(texts, add_special_tokens=False, split_special_tokens=True).input_ids
        found[what] = ids
    (path / "ids.json").write_text(json.dumps(found))
    questions, behind = [text[:8] for text in texts[::7]], texts[1::7]
    room = {"truncation": "only_second", "max_length": vocabularies.ROOM}
    read = hf.PreTrainedTokenizerFast.from_pretrained(path)
    pairs = read(questions[: len(behind)], behind, return_token_type_ids=True, **room)
    words = [text.split() for text in texts if text.split()]
    split = read(words, is_split_into_words=True)
    said = {
        **{"alone": read(texts).input_ids, "pairs": pairs.input_ids, "types": pairs.token_type_ids},
        **{"words": words, "word_ids": [split.word_ids(i) for i in range(len(words))]},
    }
    (path / "rows.json").write_text(json.dumps(said))


def inputs_of(batch):
    """Of their names and kinds, by ours."""
    theirs = {
        "tokens": "input_ids",
        "segment_ids": "attention_mask",
        "token_types": "token_type_ids",
    }
    if "source" in batch:
        theirs = {"source": "input_ids", "source_segments": "attention_mask"}
        theirs |= {"tokens": "decoder_input_ids"}
    if "image" in batch:
        return {"pixel_values": torch.from_numpy(batch["image"]).permute(0, 3, 1, 2)}
    return {theirs[name]: torch.from_numpy(x).long() for name, x in batch.items() if name in theirs}


def outputs_of(name, model, batch):
    """By our names; of tokens that fill up, 0."""
    with torch.no_grad():
        said = model.eval().float()(**inputs_of(batch))
    if name == "bert_spans":
        found = {"spans": torch.stack([said.start_logits, said.end_logits], dim=-1)}
    elif name == "bert_passages":  # theirs has what follows first
        follows = said.seq_relationship_logits.flip(-1)
        found = {"logits": said.prediction_logits, "follows": follows}
    else:
        ours = {"bert_label": "out", "bert_tags": "tags"}.get(name, "logits")
        found = {"out" if "image" in batch else ours: said.logits}
    found = {name: x.float().numpy() for name, x in found.items()}
    mask = batch.get("segment_ids")
    if mask is not None:
        found = {
            n: x if x.ndim < 3 else np.where(mask[..., None] > 0, x, 0) for n, x in found.items()
        }
    return found


def main(what: str, folder: pathlib.Path) -> None:
    for i, path in enumerate(sorted(folder.iterdir())):
        name, kind = path.name, CLASSES.get(path.name, hf.AutoModelForCausalLM)
        if what == "make":
            torch.manual_seed(i)
            config = MODELS[name]
            config._attn_implementation = "eager"
            model = kind._from_config(config) if name in CLASSES else kind.from_config(config)
            if name == "t5_gated":  # as those of version 1.1, whose heads are their own
                model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())
            for parameter in model.parameters():  # norms and biases too
                torch.nn.init.normal_(parameter, 0.1, 0.3)
            for buffer in model.buffers():
                if name.startswith("resnet") and buffer.is_floating_point():
                    torch.nn.init.uniform_(buffer, 0.5, 1.5)
            if name.endswith("bfloat16"):
                model = model.bfloat16()
            model.save_pretrained(path)
            if name in TOKENIZERS:
                cut(name, path)
        else:
            model = kind.from_pretrained(path, attn_implementation="eager")
            if name == "llama":
                text = hf.AutoTokenizer.from_pretrained(path)
                ids = text("def f(x):\n    return 'é' # <|separator|>").input_ids
                np.save(path / "ids.npy", np.array(ids))
        batch = dict(np.load(path / "batch.npz"))
        np.savez(path / "outputs.npz", **outputs_of(name, model, batch))


if __name__ == "__main__":
    main(sys.argv[1], pathlib.Path(sys.argv[2]))

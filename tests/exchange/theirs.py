"""What the real transformers does, run by the Python of an environment that has it.

    python theirs.py make FOLDER   a random model of each architecture, saved, with its logits
    python theirs.py read FOLDER   the logits of each model that is there

Tokens are in FOLDER/tokens.npy; of each model FOLDER/<name>/logits.npy is written.
"""

import pathlib
import sys

import numpy as np
import torch
import transformers as hf

SIZES = {
    **{"vocab_size": 260, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "bos_token_id": 256},
    **{"eos_token_id": 256, "max_position_embeddings": 32},
}
SMALL = {"vocab_size": 260, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 16}
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
}


def logits(model, tokens):
    with torch.no_grad():
        return model.eval()(tokens).logits.float().numpy()


def main(what: str, folder: pathlib.Path) -> None:
    tokens = torch.from_numpy(np.load(folder / "tokens.npy")).long()
    for i, (name, config) in enumerate(MODELS.items()):
        path = folder / name
        if what == "read" and not path.exists():
            continue
        if what == "make":
            torch.manual_seed(i)
            config._attn_implementation = "eager"
            model = hf.AutoModelForCausalLM.from_config(config)
            for parameter in model.parameters():  # norms and biases too
                torch.nn.init.normal_(parameter, 0.1, 0.3)
            if name.endswith("bfloat16"):
                model = model.bfloat16()
            model.save_pretrained(path)
        else:
            model = hf.AutoModelForCausalLM.from_pretrained(path, attn_implementation="eager")
            text = hf.AutoTokenizer.from_pretrained(path)
            ids = text("def f(x):\n    return 'é' # <|separator|>").input_ids
            np.save(path / "ids.npy", np.array(ids))
        np.save(path / "logits.npy", logits(model.float(), tokens))


if __name__ == "__main__":
    main(sys.argv[1], pathlib.Path(sys.argv[2]))

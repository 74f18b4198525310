"""A decoder-only transformer in plain PyTorch, written for `train_step.py` to compare with.

The same mathematics as `scaling/families/transformer/network.py` at its defaults: pre-norm RMSNorm
blocks, rotary positions, normed queries and keys, SwiGLU, tied embedding; attention by
`scaled_dot_product_attention`, AdamW and a clipped gradient. Eager mode: `torch.compile` needs a
C++ compiler, which a machine that only trains has no other use for.
"""

import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, width: int, heads: int, mlp_width: int):
        super().__init__()
        self.heads, head_dim = heads, width // heads
        self.attention_norm, self.mlp_norm = nn.RMSNorm(width, 1e-6), nn.RMSNorm(width, 1e-6)
        self.query_norm, self.key_norm = nn.RMSNorm(head_dim, 1e-6), nn.RMSNorm(head_dim, 1e-6)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.gate_up = nn.Linear(width, 2 * mlp_width, bias=False)
        self.down = nn.Linear(mlp_width, width, bias=False)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        """[batch, length, width] -> the same."""
        batch, length, width = x.shape
        qkv = self.qkv(self.attention_norm(x)).view(batch, length, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        q, k = rotate(self.query_norm(q), cos, sin), rotate(self.key_norm(k), cos, sin)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(batch, length, width))
        gate, up = self.gate_up(self.mlp_norm(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary positions; pairs are half a head apart."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


class GPT(nn.Module):
    """Tokens to the mean next-token loss."""

    def __init__(self, vocab: int, width: int, depth: int, heads: int, mlp_width: int, length: int):
        super().__init__()
        self.embedding = nn.Embedding(vocab, width)
        self.blocks = nn.ModuleList(Block(width, heads, mlp_width) for _ in range(depth))
        self.final_norm = nn.RMSNorm(width, 1e-6)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        frequencies = 10_000.0 ** (-torch.arange(0, width // heads, 2) / (width // heads))
        angles = torch.arange(length)[:, None] * frequencies[None, :]
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def forward(self, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Both int64 [batch, length]; the loss in nats."""
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        logits = F.linear(self.final_norm(x), self.embedding.weight)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def trainer(model: GPT, tokens: torch.Tensor, targets: torch.Tensor):
    """A function that makes one update and returns the loss."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), fused=True)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = model(tokens, targets)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return step

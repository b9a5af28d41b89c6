# SPDX-License-Identifier: Apache-2.0
"""The decoder (Llama's block, nothing else), as it is trained and as it is checked after quantization."""
from dataclasses import asdict, dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F


@dataclass
class Config:
    """Keys as in config.json. Every matrix's input width is a multiple of 64, the quantization group."""
    hidden_size: int = 384
    intermediate_size: int = 1024
    num_hidden_layers: int = 8
    num_attention_heads: int = 6
    num_key_value_heads: int = 2
    head_dim: int = 64
    vocab_size: int = 3072
    max_position_embeddings: int = 2048
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-5

    def json(self):
        return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", **asdict(self), "hidden_act": "silu",
                "attention_bias": False, "mlp_bias": False, "tie_word_embeddings": True, "torch_dtype": "float16"}


def rope_table(config, device):
    half = torch.arange(0, config.head_dim, 2, device=device, dtype=torch.float64) / config.head_dim
    angle = torch.arange(config.max_position_embeddings, device=device, dtype=torch.float64)[:, None] \
        * config.rope_theta ** -half[None]
    angle = torch.cat([angle, angle], dim=-1)
    return angle.cos().float(), angle.sin().float()


def rotate(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-b, a], dim=-1) * sin


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.q_proj = nn.Linear(c.hidden_size, c.num_attention_heads * c.head_dim, bias=False)
        self.k_proj = nn.Linear(c.hidden_size, c.num_key_value_heads * c.head_dim, bias=False)
        self.v_proj = nn.Linear(c.hidden_size, c.num_key_value_heads * c.head_dim, bias=False)
        self.o_proj = nn.Linear(c.num_attention_heads * c.head_dim, c.hidden_size, bias=False)

    def forward(self, x, cos, sin):
        b, n, _ = x.shape
        q, k, v = (p(x).view(b, n, -1, self.c.head_dim).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj))
        q, k = rotate(q, cos, sin).to(v.dtype), rotate(k, cos, sin).to(v.dtype)
        repeat = self.c.num_attention_heads // self.c.num_key_value_heads
        k, v = k.repeat_interleave(repeat, dim=1), v.repeat_interleave(repeat, dim=1)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(y.transpose(1, 2).reshape(b, n, -1))


class MLP(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.gate_proj = nn.Linear(c.hidden_size, c.intermediate_size, bias=False)
        self.up_proj = nn.Linear(c.hidden_size, c.intermediate_size, bias=False)
        self.down_proj = nn.Linear(c.intermediate_size, c.hidden_size, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, c, dropout=0.0):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.input_layernorm = nn.RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.self_attn = Attention(c)
        self.post_attention_layernorm = nn.RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.mlp = MLP(c)

    def forward(self, x, cos, sin):
        x = x + self.dropout(self.self_attn(self.input_layernorm(x), cos, sin))
        return x + self.dropout(self.mlp(self.post_attention_layernorm(x)))


class Decoder(nn.Module):
    """Module names are the checkpoint's, below `model.`; the embedding is the output matrix too."""

    def __init__(self, c, dropout=0.0):
        super().__init__()
        self.c = c
        self.dropout = nn.Dropout(dropout)
        self.embed_tokens = nn.Embedding(c.vocab_size, c.hidden_size)
        self.layers = nn.ModuleList(Layer(c, dropout) for _ in range(c.num_hidden_layers))
        self.norm = nn.RMSNorm(c.hidden_size, c.rms_norm_eps)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                deep = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(p, std=0.03 / (2 * c.num_hidden_layers) ** 0.5 if deep else 0.03)
        self.tables = None

    def hidden(self, ids):
        if self.tables is None or self.tables[0].device != ids.device:
            self.tables = rope_table(self.c, ids.device)
        cos, sin = (t[:ids.shape[1]] for t in self.tables)
        x = self.dropout(self.embed_tokens(ids))
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.norm(x)

    def logits(self, hidden):
        return F.linear(hidden, self.embed_tokens.weight)

    def forward(self, ids):
        return self.logits(self.hidden(ids))


@torch.no_grad()
def generate(model, prompts, stop_id, max_new=160, temperature=0.0, top_p=1.0, seed=0, batch=256):
    """Continue each list of ids until stop_id. Without a cache: right-padding does no harm to a causal model."""
    device = next(model.parameters()).device
    torch.manual_seed(seed)
    answers = []
    for at in range(0, len(prompts), batch):
        rows = [list(p)[-(model.c.max_position_embeddings - max_new):] for p in prompts[at:at + batch]]
        lengths = torch.tensor([len(r) for r in rows], device=device)
        ids = torch.zeros(len(rows), int(lengths.max()) + max_new, dtype=torch.long, device=device)
        for i, r in enumerate(rows):
            ids[i, :len(r)] = torch.tensor(r, device=device)
        start, done, index = lengths.clone(), torch.zeros(len(rows), dtype=torch.bool, device=device), torch.arange(len(rows), device=device)
        for _ in range(max_new):
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                h = model.hidden(ids[:, :int(lengths.max())])[index, lengths - 1]
                logits = model.logits(h).float()
            if temperature == 0:
                token = logits.argmax(-1)
            else:
                p, order = (logits / temperature).softmax(-1).sort(-1, descending=True)
                p[p.cumsum(-1) - p > top_p] = 0
                token = order.gather(1, torch.multinomial(p, 1))[:, 0]
            token = torch.where(done, 0, token)
            ids[index, lengths] = token
            done |= token == stop_id
            lengths = torch.where(done, lengths, lengths + 1)
            if done.all():
                break
        answers += [ids[i, start[i]:lengths[i]].tolist() for i in range(len(rows))]
    return answers

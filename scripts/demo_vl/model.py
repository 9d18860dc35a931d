"""Qwen3-VL as transformers has it, its names included, for batches in which all pictures have one size."""
import math
import torch, torch.nn as nn, torch.nn.functional as F

TEXT = dict(hidden=256, layers=4, heads=4, kv_heads=2, head_dim=64, ffn=512, theta=10000.0, sections=(12, 10, 10))
VISION = dict(hidden=192, layers=4, heads=4, ffn=576, side=12, deep=(1,))
PATCH, MERGE, FRAMES = 16, 2, 2


class RmsNorm(nn.Module):
    def __init__(s, n):
        super().__init__()
        s.weight = nn.Parameter(torch.ones(n))

    def forward(s, x):
        f = x.float()
        return (f * torch.rsqrt(f.pow(2).mean(-1, keepdim=True) + 1e-6) * s.weight).to(x.dtype)


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return (x * cos + torch.cat((-b, a), -1) * sin).to(x.dtype)


# ---------------------------------------------------------------- the tower
class VisionAttention(nn.Module):
    def __init__(s, c):
        super().__init__()
        s.heads = c["heads"]
        s.qkv = nn.Linear(c["hidden"], 3 * c["hidden"])
        s.proj = nn.Linear(c["hidden"], c["hidden"])

    def forward(s, x, cos, sin):
        b, n, d = x.shape
        q, k, v = s.qkv(x).view(b, n, 3, s.heads, d // s.heads).permute(2, 0, 3, 1, 4)
        o = F.scaled_dot_product_attention(rotate(q, cos, sin), rotate(k, cos, sin), v)
        return s.proj(o.transpose(1, 2).reshape(b, n, d))


class VisionMlp(nn.Module):
    def __init__(s, c):
        super().__init__()
        s.linear_fc1 = nn.Linear(c["hidden"], c["ffn"])
        s.linear_fc2 = nn.Linear(c["ffn"], c["hidden"])

    def forward(s, x):
        return s.linear_fc2(F.gelu(s.linear_fc1(x), approximate="tanh"))


class Block(nn.Module):
    def __init__(s, c):
        super().__init__()
        s.norm1 = nn.LayerNorm(c["hidden"], eps=1e-6)
        s.norm2 = nn.LayerNorm(c["hidden"], eps=1e-6)
        s.attn = VisionAttention(c)
        s.mlp = VisionMlp(c)

    def forward(s, x, cos, sin):
        x = x + s.attn(s.norm1(x), cos, sin)
        return x + s.mlp(s.norm2(x))


class Merger(nn.Module):
    def __init__(s, d, out, deep):
        super().__init__()
        s.deep = deep
        s.wide = d * MERGE * MERGE
        s.norm = nn.LayerNorm(s.wide if deep else d, eps=1e-6)
        s.linear_fc1 = nn.Linear(s.wide, s.wide)
        s.linear_fc2 = nn.Linear(s.wide, out)

    def forward(s, x):
        b = x.shape[0]
        x = s.norm(x.reshape(b, -1, s.wide)) if s.deep else s.norm(x).reshape(b, -1, s.wide)
        return s.linear_fc2(F.gelu(s.linear_fc1(x)))


class PatchEmbed(nn.Module):
    def __init__(s, d):
        super().__init__()
        s.proj = nn.Conv3d(3, d, (FRAMES, PATCH, PATCH), (FRAMES, PATCH, PATCH))

    def forward(s, x):
        return F.linear(x, s.proj.weight.flatten(1), s.proj.bias)


class Tower(nn.Module):
    def __init__(s, c, out):
        super().__init__()
        s.c = c
        s.patch_embed = PatchEmbed(c["hidden"])
        s.pos_embed = nn.Embedding(c["side"] ** 2, c["hidden"])
        s.blocks = nn.ModuleList(Block(c) for _ in range(c["layers"]))
        s.merger = Merger(c["hidden"], out, False)
        s.deepstack_merger_list = nn.ModuleList(Merger(c["hidden"], out, True) for _ in c["deep"])

    def order(s, rows, cols, device):  # of patches: those of a token together
        r, c = torch.meshgrid(torch.arange(rows, device=device), torch.arange(cols, device=device), indexing="ij")
        join = lambda t: t.view(rows // MERGE, MERGE, cols // MERGE, MERGE).permute(0, 2, 1, 3).reshape(-1)
        return join(r), join(c)

    def forward(s, images):  # (n, height, width, 3), bytes
        n, h, w, _ = images.shape
        rows, cols, side, dev = h // PATCH, w // PATCH, s.c["side"], images.device
        x = (images.float() / 255 - 0.5) / 0.5
        x = x.view(n, rows // MERGE, MERGE, PATCH, cols // MERGE, MERGE, PATCH, 3).permute(0, 1, 4, 2, 5, 7, 3, 6)
        x = x.reshape(n, rows * cols, 3, 1, PATCH * PATCH).expand(-1, -1, -1, FRAMES, -1).reshape(n, rows * cols, -1)
        x = s.patch_embed(x)
        r, c = s.order(rows, cols, dev)

        def mix(i, count):
            at = torch.linspace(0, side - 1, count, device=dev)[i]
            low = at.long()
            return low, (low + 1).clamp(max=side - 1), at - low

        r0, r1, rp = mix(r, rows)
        c0, c1, cp = mix(c, cols)
        e = lambda a, b: s.pos_embed(a * side + b)
        rp, cp = rp[:, None], cp[:, None]
        x = x + (
            e(r0, c0) * (1 - rp) * (1 - cp) + e(r0, c1) * (1 - rp) * cp + e(r1, c0) * rp * (1 - cp) + e(r1, c1) * rp * cp
        ).to(x.dtype)
        quarter = s.c["hidden"] // s.c["heads"] // 4
        freq = 10000.0 ** (-torch.arange(quarter, device=dev).float() / quarter)
        angles = torch.cat((r[:, None] * freq, c[:, None] * freq), -1)
        angles = torch.cat((angles, angles), -1)
        cos, sin = angles.cos(), angles.sin()
        deep = []
        for i, block in enumerate(s.blocks):
            x = block(x, cos, sin)
            if i in s.c["deep"]:
                deep.append(s.deepstack_merger_list[len(deep)](x))
        return s.merger(x), deep


# ---------------------------------------------------------------- the text model
class Attention(nn.Module):
    def __init__(s, c):
        super().__init__()
        s.c = c
        h, d = c["hidden"], c["head_dim"]
        s.q_proj = nn.Linear(h, c["heads"] * d, bias=False)
        s.k_proj = nn.Linear(h, c["kv_heads"] * d, bias=False)
        s.v_proj = nn.Linear(h, c["kv_heads"] * d, bias=False)
        s.o_proj = nn.Linear(c["heads"] * d, h, bias=False)
        s.q_norm = RmsNorm(d)
        s.k_norm = RmsNorm(d)

    def forward(s, x, cos, sin):
        b, t, _ = x.shape
        d, group = s.c["head_dim"], s.c["heads"] // s.c["kv_heads"]
        q = s.q_norm(s.q_proj(x).view(b, t, -1, d)).transpose(1, 2)
        k = s.k_norm(s.k_proj(x).view(b, t, -1, d)).transpose(1, 2)
        v = s.v_proj(x).view(b, t, -1, d).transpose(1, 2)
        k, v = rotate(k, cos, sin).repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        o = F.scaled_dot_product_attention(rotate(q, cos, sin), k, v, is_causal=True)
        return s.o_proj(o.transpose(1, 2).reshape(b, t, -1))


class Mlp(nn.Module):
    def __init__(s, c):
        super().__init__()
        h, f = c["hidden"], c["ffn"]
        s.gate_proj = nn.Linear(h, f, bias=False)
        s.up_proj = nn.Linear(h, f, bias=False)
        s.down_proj = nn.Linear(f, h, bias=False)

    def forward(s, x):
        return s.down_proj(F.silu(s.gate_proj(x)) * s.up_proj(x))


class Layer(nn.Module):
    def __init__(s, c):
        super().__init__()
        s.self_attn = Attention(c)
        s.mlp = Mlp(c)
        s.input_layernorm = RmsNorm(c["hidden"])
        s.post_attention_layernorm = RmsNorm(c["hidden"])

    def forward(s, x, cos, sin):
        x = x + s.self_attn(s.input_layernorm(x), cos, sin)
        return x + s.mlp(s.post_attention_layernorm(x))


class Text(nn.Module):
    def __init__(s, c, vocab):
        super().__init__()
        s.c = c
        s.embed_tokens = nn.Embedding(vocab, c["hidden"])
        s.layers = nn.ModuleList(Layer(c) for _ in range(c["layers"]))
        s.norm = RmsNorm(c["hidden"])


class Model(nn.Module):
    def __init__(s, vocab, text=TEXT, vision=VISION):
        super().__init__()
        s.visual = Tower(vision, text["hidden"])
        s.language_model = Text(text, vocab)
        for name, p in s.named_parameters():
            if p.dim() > 1:
                nn.init.normal_(
                    p,
                    std=0.02
                    / (
                        math.sqrt(2 * text["layers"])
                        if name.endswith(("o_proj.weight", "down_proj.weight", "attn.proj.weight", "mlp.linear_fc2.weight"))
                        else 1
                    ),
                )
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def angles(s, positions):  # (3, batch, tokens)
        c = s.language_model.c
        half = c["head_dim"] // 2
        freq = c["theta"] ** (-torch.arange(half, device=positions.device).float() / half)
        axis = torch.zeros(half, dtype=torch.long, device=positions.device)
        for a in (1, 2):
            axis[a : 3 * c["sections"][a] : 3] = a
        f = positions[axis].permute(1, 2, 0).float() * freq  # (batch, tokens, half)
        f = torch.cat((f, f), -1)[:, None]
        return f.cos(), f.sin()

    # `places`: which of the batch's tokens, flat, the pictures' features are for.
    def forward(s, ids, positions, images, places):
        m = s.language_model
        feats, deep = s.visual(images)
        x = m.embed_tokens(ids)
        shape = x.shape
        x = x.to(feats.dtype).reshape(-1, shape[-1]).index_copy(0, places, feats.reshape(-1, shape[-1])).view(shape)
        cos, sin = s.angles(positions)
        for i, layer in enumerate(m.layers):
            x = layer(x, cos, sin)
            if i < len(deep):
                x = x.reshape(-1, shape[-1]).index_add(0, places, deep[i].reshape(-1, shape[-1]).to(x.dtype)).view(shape)
        return m.norm(x), feats

    def logits(s, x):
        return F.linear(x, s.language_model.embed_tokens.weight.to(x.dtype))

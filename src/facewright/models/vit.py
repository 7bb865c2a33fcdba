"""ViT-Ti/S/B with patches of 16: a transformer over the patches of an image.

Source: Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021 (arXiv:2010.11929), section 3.1 and table 1;
the sizes Ti and S are of Touvron et al. 2021 (arXiv:2012.12877), table 1. Parameter names are timm's
(`vit_tiny_patch16_224`, `vit_small_patch16_224`, `vit_base_patch16_224`); no dropout.
Other sizes: the 14 x 14 position embeddings are resampled (bicubic, antialiased) to the grid of the image, as the
paper does for fine-tuning; a side that is no multiple of 16 is filled up with zeros, which after normalisation are the
mean colour, at its right or lower end. So weights fit every size from 32 px; there is one stem, the paper's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from facewright.models.blocks import Model, Stage, Stem, Unit

PATCH = 16  # px
GRID = 14  # patches along a side of the paper's 224 px
DEPTH = 12
EPSILON = 1e-6  # of the layer norms


class PatchEmbedding(nn.Module):
    """Every patch of 16 x 16 pixels, projected to one vector."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, PATCH, PATCH)
        self.shorthand = f"{PATCH}×{PATCH} {width} /{PATCH}"

    def forward(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, width, ceil(H/16), ceil(W/16))
        bottom, right = (-x.shape[-2] % PATCH, -x.shape[-1] % PATCH)
        return self.proj(nn.functional.pad(x, (0, right, 0, bottom)))


class Attention(nn.Module):
    """Multi-head self-attention: each token reads all tokens, in `heads` subspaces at once."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.shorthand = f"attention {heads} × {width // heads}"

    def forward(self, x: Tensor) -> Tensor:  # (B, N, width) -> the same shape
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (B, heads, N, d)
        read = nn.functional.scaled_dot_product_attention(query, key, value)
        return self.proj(read.transpose(1, 2).flatten(2))


class Perceptron(nn.Module):
    """Linear to four times the width, GELU, linear back."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(4 * width, width)
        self.shorthand = f"MLP {4 * width:,}"

    def forward(self, x: Tensor) -> Tensor:  # (B, N, width) -> the same shape
        return self.fc2(self.act(self.fc1(x)))


class Block(nn.Module):
    """Norm and attention, then norm and MLP, each added to what came in."""

    join = "identity"

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=EPSILON)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=EPSILON)
        self.mlp = Perceptron(width)

    def forward(self, x: Tensor) -> Tensor:  # (B, N, width) -> the same shape
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


VARIANTS = {"vit_ti_16": (192, 3), "vit_s_16": (384, 6), "vit_b_16": (768, 12)}  # width, heads


class VisionTransformer(Model):
    classifier_name = "head"

    def __init__(self, name: str, classes: int, stem: Stem = "imagenet") -> None:
        super().__init__()
        width, heads = VARIANTS[name]
        self.feature_width = width
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + GRID**2, width))  # of the class token, then row by row
        self.patch_embed = PatchEmbedding(width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(DEPTH)))
        self.norm = nn.LayerNorm(width, eps=EPSILON)
        self.head = nn.Linear(width, classes)
        initialize(self)

    def forward_features(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, feature_width): the class token
        patches = self.patch_embed(x)  # (B, width, rows, columns)
        token = self.cls_token.expand(x.shape[0], -1, -1)  # len(x) would fix it in an export
        tokens = torch.cat([token, patches.flatten(2).transpose(1, 2)], 1)  # (B, 1 + rows * columns, width)
        tokens = self.blocks(tokens + positions(self.pos_embed, patches.shape[-2], patches.shape[-1]))
        return self.norm(tokens[:, 0])

    def stages(self) -> tuple[Stage, ...]:
        """The outline that tables and drawings follow; "" stands for the class token and the positions."""
        stem, encoder = Unit(("patch_embed", "")), self.units_in("blocks")
        return self.stage("stem", stem), self.stage("encoder", *encoder), self.stage("head", "norm head")


def positions(embeddings: Tensor, rows: int, columns: int) -> Tensor:
    """Position embeddings for another grid, resampled from the paper's.

    Args:
        embeddings: (1, 1 + 14 * 14, D); the first, of the class token, stays as it is.
    Returns:
        (1, 1 + rows * columns, D); `embeddings` itself for the paper's grid.
    """
    if (rows, columns) == (GRID, GRID):
        return embeddings
    token, grid = embeddings[:, :1], embeddings[:, 1:].reshape(1, GRID, GRID, -1).permute(0, 3, 1, 2)
    resampled = nn.functional.interpolate(grid, (rows, columns), mode="bicubic", antialias=True)
    return torch.cat([token, resampled.flatten(2).transpose(1, 2)], 1)


@torch.no_grad()
def initialize(model: VisionTransformer) -> None:
    """Linear layers and positions: normal with std 0.02, cut at two of them, biases 0; patches: variance 1 / fan-in.

    The class token starts at 0. Source: the authors' code and timm's.
    """
    nn.init.trunc_normal_(model.pos_embed, std=0.02, a=-0.04, b=0.04)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02, a=-0.04, b=0.04)
        elif isinstance(module, nn.Conv2d):
            module.weight.normal_(0.0, module.weight[0].numel() ** -0.5)
        else:
            continue
        if module.bias is not None:
            module.bias.zero_()

"""The guide's network, a small llama, and its training step in JAX."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

Params = dict[str, jax.Array]


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of the network; `width` is divisible by `heads`."""

    vocabulary: int
    layers: int = 4
    width: int = 192
    heads: int = 6
    hidden: int = 512
    rope_base: float = 10000.0
    epsilon: float = 1e-5


class Batch(NamedTuple):
    """Packed examples, each array (rows, length); a segment is one example, 0 is padding."""

    tokens: jax.Array
    targets: jax.Array
    weights: jax.Array
    positions: jax.Array
    segments: jax.Array


def initial(shape: Shape, seed: int) -> Params:
    """Draws the parameters, named as in GGUF; matrices are (in, out), fastest in XLA."""
    square = (shape.width, shape.width)
    blocks = dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_output"), square)
    blocks |= dict.fromkeys(("ffn_gate", "ffn_up"), (shape.width, shape.hidden))
    blocks["ffn_down"] = (shape.hidden, shape.width)
    sizes = {f"blk.{n}.{name}": size for n in range(shape.layers) for name, size in blocks.items()}
    sizes["output"] = (shape.width, shape.vocabulary)
    keys = jax.random.split(jax.random.key(seed), len(sizes) + 1)
    params = {
        name: jax.random.normal(key, size) * (0.5 * size[0] ** -0.5)
        for key, (name, size) in zip(keys[1:], sizes.items(), strict=True)
    }
    params["token_embd"] = jax.random.normal(keys[0], (shape.vocabulary, shape.width)) * 0.02
    norms = [f"blk.{n}.{name}_norm" for n in range(shape.layers) for name in ("attn", "ffn")]
    norms.append("output_norm")
    return params | {name: jnp.ones(shape.width, jnp.float32) for name in norms}


def normalised(x: jax.Array, gain: jax.Array, epsilon: float) -> jax.Array:
    """Root-mean-square normalisation over the last axis."""
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + epsilon) * gain


def rotated(x: jax.Array, angles: jax.Array) -> jax.Array:
    """Rotary embedding over interleaved pairs, as libllama rotates a llama."""
    even, odd = x[..., 0::2], x[..., 1::2]
    cos, sin = jnp.cos(angles)[:, :, None], jnp.sin(angles)[:, :, None]
    return jnp.stack([even * cos - odd * sin, even * sin + odd * cos], -1).reshape(x.shape)


def logits(params: Params, batch: Batch, shape: Shape) -> jax.Array:
    """Scores of the next token, (rows, length, vocabulary)."""
    rows, length = batch.tokens.shape
    size = shape.width // shape.heads
    heads = (rows, length, shape.heads, size)
    angles = batch.positions[..., None] * shape.rope_base ** (-jnp.arange(0, size, 2) / size)
    same = batch.segments[:, :, None] == batch.segments[:, None, :]
    visible = (same & jnp.tril(jnp.ones((length, length), bool)))[:, None]
    x = params["token_embd"][batch.tokens.reshape(-1)]
    for n in range(shape.layers):
        prefix = f"blk.{n}."
        block = {k.removeprefix(prefix): v for k, v in params.items() if k.startswith(prefix)}
        y = normalised(x, block["attn_norm"], shape.epsilon)
        q, k, v = ((y @ block[f"attn_{name}"]).reshape(heads) for name in "qkv")
        scores = jnp.einsum("bqhd,bkhd->bhqk", rotated(q, angles), rotated(k, angles)) * size**-0.5
        weights = jax.nn.softmax(jnp.where(visible, scores, -1e9), -1)
        x += jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(x.shape) @ block["attn_output"]
        y = normalised(x, block["ffn_norm"], shape.epsilon)
        x += (jax.nn.silu(y @ block["ffn_gate"]) * (y @ block["ffn_up"])) @ block["ffn_down"]
    scores = normalised(x, params["output_norm"], shape.epsilon) @ params["output"]
    return scores.reshape(rows, length, -1)


def loss(params: Params, batch: Batch, shape: Shape) -> jax.Array:
    """Weighted mean cross-entropy of the answers' tokens."""
    scores = logits(params, batch, shape)
    each = optax.softmax_cross_entropy_with_integer_labels(scores, batch.targets)
    return (each * batch.weights).sum() / batch.weights.sum()


def optimiser(steps: int, rate: float) -> optax.GradientTransformation:
    """AdamW with a short warm-up and a cosine that ends at zero; gains do not decay."""
    schedule = optax.warmup_cosine_decay_schedule(0.0, rate, min(40, steps // 5), steps)
    adam = optax.adamw(schedule, b2=0.98, weight_decay=0.1, mask=_decays)
    return optax.chain(optax.clip_by_global_norm(1.0), adam)


def _decays(params: Params) -> dict[str, bool]:
    return {name: values.ndim > 1 for name, values in params.items()}


@partial(jax.jit, static_argnums=(3, 4), donate_argnums=(0, 1))
def step(
    params: Params,
    state: optax.OptState,
    batch: Batch,
    shape: Shape,
    adam: optax.GradientTransformation,
) -> tuple[Params, optax.OptState, jax.Array]:
    """Takes one training step and gives the loss before it."""
    value, slope = jax.value_and_grad(loss)(params, batch, shape)
    updates, state = adam.update(slope, state, params)
    return optax.apply_updates(params, updates), state, value

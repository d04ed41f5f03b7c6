"""`EomtForUniversalSegmentation`: a plain ViT whose last layers also carry queries, each of them a class and a mask.

Kerssies et al., "Your ViT is Secretly an Image Segmentation Model", CVPR 2025. In shapes: B images, Q queries,
K classes, P patches on a rows x columns grid, R registers, D hidden size, (h, w) the mask resolution, T tokens in the
order [queries, class token, registers, patches].
"""

from os import PathLike
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from eomt.attention import Rotation
from eomt.checkpoint import load_checkpoint, save_checkpoint
from eomt.configuration import EomtConfig
from eomt.hub import HubOptions
from eomt.layers import Embeddings, Layer, LearnedVectors, MaskHead, UpscaleBlock
from eomt.loss import EomtLoss, total_loss
from eomt.outputs import EomtForUniversalSegmentationOutput


class EomtForUniversalSegmentation(nn.Module):
    """EoMT for semantic, instance and panoptic segmentation.

    A new model's weights are random, as those of transformers are. `attn_mask_probs` (num_blocks,) holds the
    probability with which a query's attention is masked in each of the last blocks; training anneals it to zero.
    """

    config_class: ClassVar[type[EomtConfig]] = EomtConfig

    attn_mask_probs: Tensor

    def __init__(self, config: EomtConfig) -> None:
        super().__init__()
        self.config = config
        self.gradient_checkpointing = False
        self.embeddings = self._make_embeddings(config)
        self.query = LearnedVectors(config.num_queries, config.hidden_size)
        self.layers = nn.ModuleList(self._make_layer(config) for _ in range(config.num_hidden_layers))
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.class_predictor = nn.Linear(config.hidden_size, config.num_labels + 1)
        self.mask_head = MaskHead(config)
        self.upscale_block = UpscaleBlock(config)
        self.criterion = EomtLoss(config)
        self.register_buffer("attn_mask_probs", torch.ones(config.num_blocks))
        self._host_probs = HostCopy()

    # What a model with another backbone replaces.

    def _make_embeddings(self, config: EomtConfig) -> nn.Module:
        return Embeddings(config)

    def _make_layer(self, config: EomtConfig) -> Layer:
        return Layer(config)

    def _rotation(self, tokens: Tensor) -> Rotation | None:
        """Angles of the patches' positions, where they are not embedded in the tokens."""
        return None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.query.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are."""
        return self.query.weight.dtype

    def forward(
        self,
        pixel_values: Tensor,
        mask_labels: list[Tensor] | None = None,
        class_labels: list[Tensor] | None = None,
        patch_offsets: list[Tensor] | None = None,
        *,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> EomtForUniversalSegmentationOutput:
        """Predict Q class distributions and masks for each image, and the loss if there are labels.

        pixel_values: (B, channels, height, width) as the image processor makes them; the size is the configuration's
        mask_labels: one (n_i, height, width) of 0 and 1 per image
        class_labels: one (n_i,) int64 per image, the class of each of these masks
        patch_offsets: handed through to the output, for the post-processing of split images
        """
        if (mask_labels is None) != (class_labels is None):
            raise ValueError("mask_labels and class_labels belong together: give both, or neither.")
        keep_states = _choose(output_hidden_states, self.config.output_hidden_states)
        keep_weights = _choose(output_attentions, self.config.output_attentions)
        first_block = self.config.num_hidden_layers - self.config.num_blocks

        tokens: Tensor = self.embeddings(pixel_values)  # (B, 1+R+P, D)
        rotation = self._rotation(tokens)
        states: list[Tensor] = [tokens]
        attentions: list[Tensor] = []
        predictions: list[tuple[Tensor, Tensor]] = []
        for index, layer in enumerate(self.layers):
            block = index - first_block
            query_mask = None
            if block == 0:
                queries = self.query.weight.expand(len(tokens), -1, -1)
                tokens = torch.cat((queries, tokens), dim=1)  # (B, T, D)
            # At inference a block whose masking has been annealed away needs no prediction. An earlier block's mask
            # is not used again, as in the original (transformers keeps it).
            if block >= 0 and (self.training or self._mask_probs()[block] > 0):
                predictions.append(self.predict(self.layernorm(tokens)))
                query_mask = self._query_mask(predictions[-1][0], block)
            tokens, weights = self._run(layer, tokens, query_mask, keep_weights, rotation)
            if keep_states:
                states.append(tokens)
            if weights is not None:
                attentions.append(weights)

        tokens = self.layernorm(tokens)
        predictions.append(self.predict(tokens))
        loss = loss_parts = None
        if mask_labels is not None and class_labels is not None:
            loss_parts = self.criterion(predictions, mask_labels, class_labels)
            loss = total_loss(loss_parts)

        mask_logits, class_logits = predictions[-1]
        return EomtForUniversalSegmentationOutput(
            loss=loss,
            class_queries_logits=class_logits,
            masks_queries_logits=mask_logits,
            last_hidden_state=tokens,
            hidden_states=(*states[:-1], tokens) if keep_states else None,
            attentions=tuple(attentions) if keep_weights else None,
            patch_offsets=patch_offsets,
            loss_parts=loss_parts,
        )

    def predict(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Mask logits (B, Q, h, w) and class logits (B, Q, K+1) of normalised tokens (B, T, D)."""
        if len(tokens) < 2 or not tokens.is_cpu or torch.is_grad_enabled():
            return self._predict(tokens)
        # One image after the other, as fast on a CPU: features of h x w are the largest arrays of all.
        masks, classes = zip(*(self._predict(image[None]) for image in tokens), strict=True)
        return torch.cat(masks), torch.cat(classes)

    def _predict(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        num_queries, num_prefix = self.config.num_queries, self.config.num_prefix_tokens
        queries, patches = tokens[:, :num_queries], tokens[:, num_queries + num_prefix :]
        rows, columns = self.config.grid_size
        grid = patches.transpose(1, 2).reshape(len(patches), -1, rows, columns)  # (B, D, rows, columns)
        features = self.upscale_block(grid)  # (B, D, h, w)
        mask_logits = self.mask_head(queries) @ features.flatten(2)  # (B, Q, h*w)
        return mask_logits.reshape(*mask_logits.shape[:2], *features.shape[2:]), self.class_predictor(queries)

    def _query_mask(self, mask_logits: Tensor, block: int) -> Tensor:
        """Where each query may look, (B, 1, Q, T): at all tokens but the patches outside its predicted mask.

        With the block's probability of masking below one, some queries, drawn anew each time, may look everywhere.
        """
        on_grid = F.interpolate(mask_logits.detach(), size=self.config.grid_size, mode="bilinear")
        allowed = on_grid.flatten(2) > 0  # (B, Q, P)
        if torch.compiler.is_compiling() or self._mask_probs()[block] < 1:
            free = torch.rand(allowed.shape[:2], device=allowed.device) > self.attn_mask_probs[block]  # (B, Q)
            allowed = allowed | free[..., None]
        others = self.config.num_queries + self.config.num_prefix_tokens
        return F.pad(allowed, (others, 0), value=True)[:, None]

    def _mask_probs(self) -> tuple[float, ...]:
        probs = self.attn_mask_probs
        return tuple(probs.tolist()) if probs.is_cpu else self._host_probs.of(probs)

    # torch.compile treats it as constant: compile again after changing the probabilities of a model for inference.
    # This is all that torch.compiler.assume_constant_result does, but calling that imports the compiler: two seconds.
    _mask_probs._dynamo_marked_constant = True  # type: ignore[attr-defined]

    def _run(self, layer: nn.Module, *arguments: Any) -> tuple[Tensor, Tensor | None]:
        if self.gradient_checkpointing and self.training and torch.is_grad_enabled():
            result = checkpoint(layer, *arguments, use_reentrant=False)
        else:
            result = layer(*arguments)
        return result  # type: ignore[no-any-return]

    @classmethod
    def from_pretrained(
        cls,
        id_or_folder: str | PathLike[str],
        *,
        config: EomtConfig | None = None,
        dtype: torch.dtype | str | None = None,
        torch_dtype: torch.dtype | str | None = None,
        device: torch.device | str | None = None,
        revision: str | None = None,
        cache_dir: str | PathLike[str] | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
    ) -> Self:
        """The model of a local folder or of a hub id such as "tue-mps/coco_panoptic_eomt_large_640", in eval mode.

        Reads the published layout and the original repository's `pytorch_model.bin`.

        config: instead of the checkpoint's own `config.json`
        dtype (its older name is torch_dtype): of the parameters; by default as they are stored
        device: where the weights go; by default the CPU
        revision, cache_dir, token, local_files_only: how a hub id is fetched, as in huggingface_hub

        Raises `CheckpointError` where files are missing or damaged, or a weight is missing, unknown or misshapen.
        Warns (`CheckpointWarning`) where `attn_mask_probs` is missing, which then is all ones.
        """
        return load_checkpoint(
            cls,
            id_or_folder,
            config_class=cls.config_class,
            config=config,
            dtype=torch_dtype if dtype is None else dtype,
            device=device,
            options=HubOptions(revision, cache_dir, token, local_files_only),
        )

    def save_pretrained(self, folder: str | PathLike[str], *, max_shard_size: int | str = "5GB") -> None:
        """Write `config.json` and `model.safetensors`, or shards of at most `max_shard_size` with an index."""
        save_checkpoint(self, self.config, folder, max_shard_size)

    def gradient_checkpointing_enable(self) -> None:
        """In training, keep only each layer's input and compute the rest again: less memory, a third more time."""
        self.gradient_checkpointing = True

    def gradient_checkpointing_disable(self) -> None:
        """Keep what the backward pass needs, which is the default."""
        self.gradient_checkpointing = False


class HostCopy:
    """Values of a small tensor on the host, read again only after it was replaced or written to in place."""

    def __init__(self) -> None:
        self._source: Tensor | None = None
        self._version = -1
        self._values: tuple[float, ...] = ()

    def of(self, tensor: Tensor) -> tuple[float, ...]:
        """The tensor's values; a GPU is waited for only if they may have changed."""
        if tensor.is_inference():  # does not count its versions
            return tuple(tensor.tolist())
        if tensor is not self._source or tensor._version != self._version:
            self._source, self._version = tensor, tensor._version
            self._values = tuple(tensor.tolist())
        return self._values


def _choose(given: bool | None, default: bool) -> bool:
    return default if given is None else given

"""`EomtForUniversalSegmentation`: a plain ViT whose last layers also carry queries, each of them a class and a mask.

Kerssies et al., "Your ViT is Secretly an Image Segmentation Model", CVPR 2025. In shapes: B images, Q queries,
K classes, P patches on a rows x columns grid, R registers, D hidden size, (h, w) the mask resolution, T tokens in the
order [queries, class token, registers, patches].
"""

from os import PathLike
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from eomt.checkpoint import load_checkpoint, save_checkpoint
from eomt.configuration import EomtConfig
from eomt.layers import Embeddings, Layer, MaskHead, UpscaleBlock
from eomt.loss import EomtLoss, total_loss
from eomt.outputs import EomtForUniversalSegmentationOutput


class EomtForUniversalSegmentation(nn.Module):
    """EoMT for semantic, instance and panoptic segmentation.

    A new model's weights are random, as those of transformers are. `attn_mask_probs` (num_blocks,) holds the
    probability with which a query's attention is masked in each of the last blocks; training anneals it to zero.
    """

    attn_mask_probs: Tensor

    def __init__(self, config: EomtConfig) -> None:
        super().__init__()
        self.config = config
        self.gradient_checkpointing = False
        self.embeddings = Embeddings(config)
        self.query = nn.Embedding(config.num_queries, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.class_predictor = nn.Linear(config.hidden_size, config.num_labels + 1)
        self.mask_head = MaskHead(config)
        self.upscale_block = UpscaleBlock(config)
        self.criterion = EomtLoss(config)
        self.register_buffer("attn_mask_probs", torch.ones(config.num_blocks))

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
        keep_states = _choose(output_hidden_states, self.config.output_hidden_states)
        keep_weights = _choose(output_attentions, self.config.output_attentions)
        first_block = self.config.num_hidden_layers - self.config.num_blocks
        probs = self._block_probs()

        tokens: Tensor = self.embeddings(pixel_values)  # (B, 1+R+P, D)
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
            if block >= 0 and (self.training or probs[block] > 0):
                predictions.append(self.predict(self.layernorm(tokens)))
                query_mask = self._query_mask(predictions[-1][0], probs[block])
            tokens, weights = self._run(layer, tokens, query_mask, keep_weights)
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
        num_queries, num_prefix = self.config.num_queries, self.config.num_prefix_tokens
        queries, patches = tokens[:, :num_queries], tokens[:, num_queries + num_prefix :]
        rows, columns = self.config.grid_size
        grid = patches.transpose(1, 2).reshape(len(patches), -1, rows, columns)  # (B, D, rows, columns)
        features = self.upscale_block(grid)  # (B, D, h, w)
        mask_logits = self.mask_head(queries) @ features.flatten(2)  # (B, Q, h*w)
        return mask_logits.reshape(*mask_logits.shape[:2], *features.shape[2:]), self.class_predictor(queries)

    def _query_mask(self, mask_logits: Tensor, prob: float) -> Tensor:
        """Where each query may look, (B, 1, Q, T): at all tokens but the patches outside its predicted mask."""
        on_grid = F.interpolate(mask_logits.detach(), size=self.config.grid_size, mode="bilinear")
        allowed = on_grid.flatten(2) > 0  # (B, Q, P)
        if prob < 1:
            free = torch.rand(allowed.shape[:2], device=allowed.device) > prob  # (B, Q)
            allowed = allowed | free[..., None]
        others = self.config.num_queries + self.config.num_prefix_tokens
        return F.pad(allowed, (others, 0), value=True)[:, None]

    def _block_probs(self) -> tuple[float, ...]:
        return tuple(self.attn_mask_probs.tolist())

    def _run(
        self, layer: nn.Module, tokens: Tensor, query_mask: Tensor | None, keep_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        if self.gradient_checkpointing and self.training and torch.is_grad_enabled():
            result = checkpoint(layer, tokens, query_mask, keep_weights, use_reentrant=False)
        else:
            result = layer(tokens, query_mask, keep_weights)
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
        **hub_options: Any,
    ) -> Self:
        """The model of a local folder or of a hub id such as "tue-mps/coco_panoptic_eomt_large_640", in eval mode.

        config: instead of the checkpoint's own `config.json`
        dtype (or its older name torch_dtype): of the floating-point weights; by default as they are stored
        device: where the weights are read to; by default the CPU
        hub_options: `revision`, `cache_dir`, `token`, `local_files_only`

        Raises `CheckpointError` where files are missing or damaged, or a weight is missing, unknown or misshapen.
        """
        wanted = dtype if dtype is not None else torch_dtype
        return load_checkpoint(cls, id_or_folder, config, wanted, device, hub_options)

    def save_pretrained(self, folder: str | PathLike[str], *, max_shard_size: int | str = "5GB") -> None:
        """Write `config.json` and `model.safetensors` (in shards, with an index, where it would be larger)."""
        save_checkpoint(self, folder, max_shard_size)


def _choose(given: bool | None, default: bool) -> bool:
    return default if given is None else given

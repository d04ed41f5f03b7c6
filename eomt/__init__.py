"""EoMT, the Encoder-only Mask Transformer (Kerssies et al., CVPR 2025), as a plain PyTorch library."""

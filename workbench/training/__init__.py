"""Training: ground truth in, augmented batches through `eomt.training`, a checkpoint in the published layout out."""

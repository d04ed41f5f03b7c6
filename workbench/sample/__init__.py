"""The bundled sample: a generator of small photo-like panoptic scenes, their files, and the training of its model."""

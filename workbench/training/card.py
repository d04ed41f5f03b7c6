"""The model card beside a checkpoint: what it does, what it learned from, how well, and how to use it."""

from collections.abc import Mapping
from typing import Any

from workbench.training.plan import TrainingPlan

FILE = "README.md"


def model_card(plan: TrainingPlan, step: int, score: Mapping[str, Any] | None) -> str:
    """Markdown with the hub's front matter; `score` is a validation's history entry."""
    recipe, start = plan.recipe, plan.start
    begun = {"checkpoint": f"the checkpoint {start.name}", "backbone": f"the backbone {start.name}"}.get(
        start.kind, f"random weights ({start.name})"
    )
    warmups = f"{recipe.head_warmup} steps for the heads, backbone {recipe.backbone_hold} + {recipe.backbone_warmup}"
    names = ", ".join(category.name for category in start.head.categories)
    facts = {
        "Task": f"{plan.task} segmentation",
        "Data": f"{plan.dataset_title}, {len(plan.annotations)} images",
        "Started from": begun,
        "Input": "{}x{} pixels (height x width)".format(*start.image_size_hw),
        "Classes": f"{len(start.head.categories)}: {names}",
        "Steps": f"{step} of {recipe.total_steps}, {plan.images_a_step} images each",
        "Learning rate": f"{recipe.learning_rate:g}, layer-wise decay {recipe.layer_decay:g}",
        "Weight decay": f"{recipe.weight_decay:g}",
        "Warm-up": warmups,
        "Average of weights": "none" if recipe.average_decay is None else f"decay {recipe.average_decay:g}",
        "Scales": "{:g} to {:g} of the size that fits".format(*plan.augmentation.scale),
        "Seed": str(plan.options.seed),
        "Validation": "none" if score is None else f"{score['metric']} {100 * score['value']:.2f} on {plan.val_title}",
    }
    rows = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    return _TEMPLATE.format(task=plan.task, rows=rows)


_TEMPLATE = """---
library_name: transformers
pipeline_tag: image-segmentation
tags:
- eomt
- {task}-segmentation
---

# EoMT for {task} segmentation

An Encoder-only Mask Transformer (Kerssies et al., CVPR 2025), trained by `workbench train`.

| | |
| --- | --- |
{rows}

Any pixels that the annotations leave void, and crowd regions, belonged to no mask in training. Scores are fractions
times 100.

```sh
workbench predict --dataset YOUR_DATASET --model THIS_FOLDER --task {task}
```

```python
from eomt import EomtImageProcessor, load_model

model = load_model("THIS_FOLDER")
processor = EomtImageProcessor.from_pretrained("THIS_FOLDER")
```
"""

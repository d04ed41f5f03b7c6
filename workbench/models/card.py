"""The model card of a converted checkpoint: what it is, what it was made of, and how to use it."""

from eomt.configuration import EomtConfig
from workbench.models.conversion import Conversion

CARD = "README.md"
_CLASSES_SHOWN = 12
_FORMS = {
    "published": "a checkpoint in the published layout",
    "original": "a weights file of the original repository (tue-mps/eomt)",
    "delta": "a DINOv3 weights file of the original repository (tue-mps/eomt), added to its backbone",
}


def model_card(made: Conversion, config: EomtConfig, backbone: str | None) -> str:
    """Markdown with the hub's front matter."""
    names = list(config.id2label.values())
    more = f", ... ({len(names)} in all)" if len(names) > _CLASSES_SHOWN else ""
    difference = f"{made.largest_difference:.2g}" if made.largest_difference else "none"
    facts = {
        "Made of": f"`{made.source}`: {_FORMS[made.form]}",
        "Backbone": f"`{backbone}`" if backbone else None,
        "Task": f"{made.task} segmentation" if made.task else None,
        "Classes": ", ".join(names[:_CLASSES_SHOWN]) + more,
        "Architecture": f"`{config.model_type}`, {config.num_hidden_layers} layers of width {config.hidden_size}, "
        f"queries in the last {config.num_blocks}",
        "Input": "{}x{} pixels (height x width)".format(*config.image_size_hw),
        "Weights": f"{made.parameters:,} numbers, {made.dtype}",
        "Difference to the source": f"{difference} (largest of all logits, on a random input)",
        "SHA-256 of the source": f"`{made.source_sha256}`",
    }
    rows = "\n".join(f"| {name} | {value} |" for name, value in facts.items() if value is not None)
    tags = "\n".join(f"- {tag}" for tag in ("eomt", f"{made.task}-segmentation" if made.task else None) if tag)
    return _TEMPLATE.format(name=made.folder.name, tags=tags, rows=rows)


_TEMPLATE = """---
library_name: transformers
pipeline_tag: image-segmentation
tags:
{tags}
---

# {name}

An Encoder-only Mask Transformer (Kerssies et al., CVPR 2025), converted by `workbench models convert`. Licence and
scores are those of the source.

| | |
| --- | --- |
{rows}

```python
from eomt import EomtImageProcessor, load_model

model = load_model("THIS_FOLDER")
processor = EomtImageProcessor.from_pretrained("THIS_FOLDER")
```
"""

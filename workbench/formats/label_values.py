"""What a dataset's label maps are painted with: one value a class, and the values that mean unlabelled."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from workbench.catalog.class_tables import read_class_table
from workbench.catalog.definitions import DatasetDefinition
from workbench.formats.base import Category


@dataclass(frozen=True)
class LabelValues:
    """The values in label maps of one dataset."""

    label_of: Mapping[int, int]
    """category_id -> value: the class table's `label` where there is one, else the category_id itself."""
    void: tuple[int, ...]
    """Values that mean unlabelled; the first is the one to write."""

    @classmethod
    def of(cls, definition: DatasetDefinition, categories: Sequence[Category]) -> "LabelValues":
        """The values of a dataset, for those of its classes. `ignore_index` means unlabelled unless a class has it."""
        label_of = {category.category_id: category.category_id for category in categories}
        if definition.classes is not None:
            table = read_class_table(definition.source.parent / definition.classes)
            label_of.update((key, label) for key, label in table.labels.items() if key in label_of)
        labels = set(label_of.values())
        void = dict.fromkeys((*definition.void, definition.ignore_index))
        return cls(label_of, tuple(value for value in void if value not in labels))

    @cached_property
    def category_of(self) -> Mapping[int, int]:
        """Value -> category_id."""
        return {label: category_id for category_id, label in self.label_of.items()}

    def describe_unknown(self, label: int, dataset: str) -> str:
        """A sentence for a value that is neither a class's nor void."""
        labels = sorted(self.category_of)
        listed = f"{labels[0]} to {labels[-1]}" if labels else "it has no classes"
        return (
            f"label value {label} is no class of dataset {dataset} ({listed}) and not void "
            f"({', '.join(map(str, self.void)) or 'none'}). Write the dataset's own label values, or name the dataset "
            "that has this one."
        )

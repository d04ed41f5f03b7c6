"""The predictor keeps its promises where memory runs out, classes are left out, and batches are short."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from eomt import EomtConfig, EomtForUniversalSegmentation, EomtForUniversalSegmentationOutput, EomtImageProcessor
from workbench.errors import ModelError
from workbench.formats.base import Category
from workbench.prediction import model as model_module
from workbench.prediction.classes import ClassMap
from workbench.prediction.encode import Failed, PredictedMap, PredictedMasks, Prediction
from workbench.prediction.model import Predictor, Prepared
from workbench.prediction.options import task_options

CATEGORIES = tuple(Category(10 * (i + 1), f"class {i}", i < 2, (0, 0, 0)) for i in range(4))
EXACT = ClassMap(CATEGORIES, CATEGORIES)


def tiny_model() -> EomtForUniversalSegmentation:
    torch.manual_seed(0)
    config = EomtConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, num_blocks=1, image_size=32, patch_size=8,
        num_queries=6, num_labels=4,
    )  # fmt: skip
    model = EomtForUniversalSegmentation(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    return model.eval()


def predictor(
    task: str = "instance",
    classes: ClassMap = EXACT,
    batch_size: int = 4,
    notes: list[str] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Predictor:
    processor = EomtImageProcessor(size={"shortest_edge": 32, "longest_edge": 32}, do_pad=True)
    options = task_options(task, {"threshold": 0.0} if task != "semantic" else {})
    note = (notes if notes is not None else []).append
    return Predictor(tiny_model(), processor, options, classes, batch_size=batch_size, dtype=dtype, note=note)


def images(count: int, size_hw: tuple[int, int] = (24, 32)) -> list[Prepared]:
    generator = torch.Generator().manual_seed(1)
    return [Prepared(torch.randn(1, 3, 32, 32, generator=generator), (), size_hw) for _ in range(count)]


def assert_equal(one: Sequence[Prediction | Failed], other: Sequence[Prediction | Failed]) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert type(a) is type(b)
        for name, value in vars(a).items():
            assert np.array_equal(value, getattr(b, name)), name


class LittleMemory:
    """Makes a model's forward pass run out of memory above a number of inputs."""

    def __init__(self, predictor: Predictor, most: int) -> None:
        self.forward, self.most, self.sizes = predictor.model.forward, most, list[int]()
        predictor.model.forward = self  # type: ignore[method-assign, assignment]

    def __call__(self, pixel_values: Tensor) -> EomtForUniversalSegmentationOutput:
        self.sizes.append(len(pixel_values))
        if len(pixel_values) > self.most:
            raise torch.OutOfMemoryError("not enough")
        return self.forward(pixel_values=pixel_values)


def test_a_short_batch_gives_the_bits_of_a_full_one() -> None:
    full = predictor().predict(images(4))
    for count in (1, 2, 3):
        assert_equal(predictor().predict(images(count)), full[:count])
    assert_equal(predictor().predict(images(4)[2:3]), full[2:3])


def test_every_pass_has_the_batch_size() -> None:
    subject = predictor(batch_size=4)
    memory = LittleMemory(subject, most=4)
    subject.predict(images(6))
    assert memory.sizes == [4, 4]


def test_running_out_of_memory_halves_the_batch_and_goes_on() -> None:
    notes: list[str] = []
    subject = predictor(batch_size=7, notes=notes)
    memory = LittleMemory(subject, most=2)
    results = subject.predict(images(5))
    assert memory.sizes == [7, 3, 1, 1, 1, 1, 1]
    assert subject.batch_size == 1
    assert [len(note) > 0 for note in notes] == [True, True]
    assert "batch size 7; going on with 3" in notes[0]
    assert_equal(results, predictor(batch_size=1).predict(images(5)))


def test_a_batch_size_that_fits_is_kept() -> None:
    subject = predictor(batch_size=8)
    memory = LittleMemory(subject, most=2)
    subject.predict(images(4))
    subject.predict(images(4))
    assert memory.sizes == [8, 4, 2, 2, 2, 2]


def test_a_single_input_that_does_not_fit_is_an_error_with_a_remedy() -> None:
    subject = predictor(batch_size=2)
    LittleMemory(subject, most=0)
    with pytest.raises(ModelError, match="out of memory on cpu with a single input"):
        subject.predict(images(2))


def test_one_image_too_large_to_post_process_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    mixed = [*images(1), *images(1, (2400, 3200)), *images(1)]
    expected = predictor().predict([*images(1), *images(1)])
    whole = model_module.segments

    def little_memory(outputs: object, sizes_hw: Sequence[tuple[int, int]], *rest: object) -> list[Prediction]:
        if (2400, 3200) in sizes_hw:
            raise torch.OutOfMemoryError("not enough")
        return whole(outputs, sizes_hw, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(model_module, "segments", little_memory)
    first, failed, last = predictor().predict(mixed)
    assert isinstance(failed, Failed)
    assert "2400x3200 pixels are too many for cpu" in failed.reason
    assert_equal([first, last], expected)


def test_crops_of_all_images_share_the_passes() -> None:
    subject = predictor("semantic", batch_size=4)
    subject.processor = EomtImageProcessor(size={"shortest_edge": 32, "longest_edge": None}, do_split_image=True)
    memory = LittleMemory(subject, most=4)
    generator = torch.Generator().manual_seed(1)
    two = Prepared(torch.randn(2, 3, 32, 32, generator=generator), ((0, 32), (16, 48)), (32, 48))
    three = Prepared(torch.randn(3, 3, 32, 32, generator=generator), ((0, 32), (24, 56), (48, 80)), (80, 32))
    together = subject.predict([two, three])
    assert memory.sizes == [4, 4]
    assert_equal(together, [*subject.predict([two]), *subject.predict([three])])


def test_classes_without_a_category_leave_the_others_scores_alone() -> None:
    some = ClassMap(CATEGORIES, (None, CATEGORIES[1], None, CATEGORIES[3]))
    (every,) = predictor(classes=EXACT).predict(images(1))
    (fewer,) = predictor(classes=some).predict(images(1))
    assert isinstance(every, PredictedMasks)
    assert isinstance(fewer, PredictedMasks)
    assert predictor(classes=some).categories == (CATEGORIES[1], CATEGORIES[3])
    kept = np.isin(every.class_index, (1, 3))
    assert 0 < kept.sum() < len(kept)
    assert [(1, 3)[i] for i in fewer.class_index] == every.class_index[kept].tolist()
    assert fewer.scores.tolist() == pytest.approx(every.scores[kept].tolist(), abs=1e-6)


def test_semantic_maps_choose_among_the_classes_with_a_category() -> None:
    some = ClassMap(CATEGORIES, (None, CATEGORIES[1], CATEGORIES[2], CATEGORIES[3]))
    (prediction,) = predictor("semantic", classes=some).predict(images(1))
    assert isinstance(prediction, PredictedMap)
    assert set(np.unique(prediction.segment_map)) <= {0, 1, 2}
    assert prediction.segment_map.shape == (24, 32)


def test_reduced_precision_is_close_and_comes_back_as_floats() -> None:
    (reduced,), (exact,) = predictor(dtype=torch.bfloat16).predict(images(1)), predictor().predict(images(1))
    assert isinstance(reduced, PredictedMasks)
    assert isinstance(exact, PredictedMasks)
    assert reduced.scores.dtype == np.float32
    assert not np.array_equal(reduced.scores, exact.scores)
    assert reduced.scores[0] == pytest.approx(exact.scores[0], rel=0.1)


def test_random_attention_masks_are_the_same_in_every_session() -> None:
    subject = predictor()
    subject.model.attn_mask_probs.fill_(0.5)
    subject = Predictor(subject.model, subject.processor, subject.options, EXACT, batch_size=4)
    torch.manual_seed(1)
    first = subject.predict(images(2))
    drawn = torch.rand(1)
    assert_equal(subject.predict(images(2)), first)
    torch.manual_seed(1)
    assert torch.rand(1) == drawn, "the caller's own random numbers were disturbed"


def test_an_image_is_prepared_as_the_processor_does_it(tmp_path: Path) -> None:
    from PIL import Image

    Image.effect_noise((40, 20), 50).convert("RGB").save(tmp_path / "noise.png")
    prepared = predictor().prepare(tmp_path / "noise.png")
    assert prepared.size_hw == (20, 40)
    assert prepared.spans == ()
    expected = predictor().processor([Image.open(tmp_path / "noise.png")], return_tensors="pt").pixel_values
    assert torch.equal(prepared.pixel_values, expected)

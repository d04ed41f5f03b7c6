"""The way in which a GPU predicts, asked of a CPU: the same rows, and what a GPU's way promises of itself."""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from eomt import EomtConfig, EomtForUniversalSegmentation, EomtImageProcessor
from eomt.integer_resize import resize_bilinear
from workbench.errors import OptionError
from workbench.formats.base import Category
from workbench.prediction import inputs as inputs_module
from workbench.prediction import passes
from workbench.prediction.classes import ClassMap
from workbench.prediction.device import COMPILE_FROM, choose_compiled
from workbench.prediction.encode import Failed, Prediction, encode
from workbench.prediction.inputs import Inputs
from workbench.prediction.model import Predictor
from workbench.prediction.options import task_options
from workbench.prediction.profiling import Profile
from workbench.prediction.session import _compiled

CATEGORIES = tuple(Category(10 * (i + 1), f"class {i}", i < 2, (0, 0, 0)) for i in range(4))
EXACT = ClassMap(CATEGORIES, CATEGORIES)
SOME = ClassMap(CATEGORIES, (None, CATEGORIES[1], None, CATEGORIES[3]))
SIZES_WH = [(90, 60), (60, 90), (64, 64), (90, 60), (200, 150)]
TASKS = ("panoptic", "instance", "semantic")


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for number, (width, height) in enumerate(SIZES_WH):
        pixels = random.integers(0, 256, (height // 10 + 1, width // 10 + 1, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((width, height)).save(folder / f"{number}.png")
    return sorted(folder.iterdir())


class OnDevice(EomtImageProcessor):
    """Resizes as it does on a GPU: for a CPU's tensors it has a way of its own."""

    resized: ClassVar[list[tuple[int, ...]]] = []

    def _resize(self, image: Tensor, size: tuple[int, int]) -> Tensor:
        self.resized.append(tuple(image.shape))
        return resize_bilinear(image, size)


@pytest.fixture(autouse=True)
def resized(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes that the device has resized."""
    OnDevice.resized.clear()

    def processed(self: Inputs, image: Tensor) -> Tensor:
        chosen = OnDevice.from_dict(self._processor.to_dict())
        made: Tensor = chosen([image], return_tensors="pt", input_data_format="channels_first").pixel_values
        return made

    monkeypatch.setattr(Inputs, "_processed", processed)
    return OnDevice.resized


def tiny_model() -> EomtForUniversalSegmentation:
    torch.manual_seed(0)
    config = EomtConfig(
        hidden_size=16, num_hidden_layers=3, num_attention_heads=2, num_blocks=2, image_size=64, patch_size=16,
        num_queries=8, num_labels=4,
    )  # fmt: skip
    model = EomtForUniversalSegmentation(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    model.attn_mask_probs.zero_()
    return model.eval()


def processor(task: str) -> EomtImageProcessor:
    if task == "semantic":
        return EomtImageProcessor(size={"shortest_edge": 64, "longest_edge": None}, do_split_image=True)
    return EomtImageProcessor(size={"shortest_edge": 64, "longest_edge": 64}, do_pad=True)


def predictor(task: str, *, like_a_gpu: bool, classes: ClassMap = EXACT, **options: Any) -> Predictor:
    given = {"panoptic": {"threshold": 0.2, "overlap_threshold": 0.1}, "instance": {"top_k": 12}, "semantic": {}}[task]
    return Predictor(
        tiny_model(),
        processor(task),
        task_options(task, given),
        classes,
        **{"batch_size": 4, **options},
        like_a_gpu=like_a_gpu,
    )


def predicted(subject: Predictor, paths: Sequence[Path]) -> list[Prediction | Failed]:
    return subject.predict([subject.prepare(path) for path in paths])


def assert_same_rows(found: Sequence[Prediction | Failed], expected: Sequence[Prediction | Failed]) -> None:
    assert len(found) == len(expected)
    for mine, other in zip(found, expected, strict=True):
        assert not isinstance(mine, Failed) and not isinstance(other, Failed)
        ours, theirs = encode(mine), encode(other)
        assert ours.counts == theirs.counts
        assert ours.class_index.tolist() == theirs.class_index.tolist()
        assert ours.areas.tolist() == theirs.areas.tolist()
        assert (ours.scores is None) == (theirs.scores is None)
        if ours.scores is not None and theirs.scores is not None:
            np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-6)


def test_float32_is_not_rounded_to_tf32_in_convolutions(paths: list[Path]) -> None:
    subject = predictor("panoptic", like_a_gpu=True)
    seen: list[str] = []
    subject.model.register_forward_hook(lambda *_: seen.append(torch.backends.cudnn.conv.fp32_precision))
    before = torch.backends.cudnn.conv.fp32_precision
    predicted(subject, paths[:1])
    assert seen == ["ieee"]
    assert torch.backends.cudnn.conv.fp32_precision == before and torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("classes", [EXACT, SOME], ids=["exact", "some"])
@pytest.mark.parametrize("task", TASKS)
def test_the_rows_are_those_of_the_cpus_way(
    task: str, classes: ClassMap, paths: list[Path], resized: list[tuple[int, ...]]
) -> None:
    found = predicted(predictor(task, like_a_gpu=True, classes=classes), paths)
    assert len(resized) == len(paths)
    assert_same_rows(found, predicted(predictor(task, like_a_gpu=False, classes=classes), paths))
    assert len(resized) == len(paths)
    assert sum(len(encode(each).counts) for each in found if not isinstance(each, Failed)) >= 3


@pytest.mark.parametrize("task", TASKS)
def test_a_batch_cut_short_by_a_resume_gives_the_same_bits(task: str, paths: list[Path]) -> None:
    subject = predictor(task, like_a_gpu=True)
    whole = predicted(subject, paths)
    for few in ([1], [3, 4], [0, 2]):
        again = predicted(subject, [paths[i] for i in few])
        for mine, i in zip(again, few, strict=True):
            for name, value in vars(mine).items():
                assert np.array_equal(value, getattr(whole[i], name)), name


@pytest.mark.parametrize("task", TASKS)
def test_readers_only_decode_and_the_device_makes_the_processors_inputs(task: str, paths: list[Path]) -> None:
    subject, device = predictor(task, like_a_gpu=True), torch.device("cpu")
    prepared = [subject.prepare(path) for path in paths]
    assert [(image.pixel_values.dtype, tuple(image.pixel_values.shape)) for image in prepared] == [
        (torch.uint8, (3, height, width)) for width, height in SIZES_WH
    ]
    made = Inputs(processor(task), (64, 64), device, resize_on_device=True, profile=Profile()).on_device(prepared)
    expected = torch.cat([processor(task)([Image.open(p)], return_tensors="pt").pixel_values for p in paths])
    assert torch.equal(made, expected)
    assert sum(image.crops for image in prepared) == len(expected)


def test_an_image_too_large_for_a_gpu_is_prepared_by_its_reader(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = predicted(predictor("panoptic", like_a_gpu=True), paths)
    monkeypatch.setattr(inputs_module, "LARGEST_ON_DEVICE", 90 * 60)
    subject = predictor("panoptic", like_a_gpu=True)
    assert [subject.prepare(path).is_finished for path in paths] == [False, False, False, False, True]
    assert_same_rows(predicted(subject, paths), expected)


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("pad", [False, True])
def test_sizes_are_planned_as_the_processor_makes_them(split: bool, pad: bool) -> None:
    size = {"shortest_edge": 64, "longest_edge": None if split else 96}
    chosen = EomtImageProcessor(size=size, do_split_image=split, do_pad=pad)
    subject = Inputs(chosen, (64, 64), torch.device("cpu"), resize_on_device=True, profile=Profile())
    for size_hw in ((50, 80), (80, 50), (64, 64), (10, 400), (400, 10), (63, 65), (128, 64)):
        batch = chosen([torch.zeros(3, *size_hw, dtype=torch.uint8)], return_tensors="pt")
        spans, made = subject.planned(size_hw)
        assert made == tuple(batch.pixel_values.shape[-2:])
        assert spans == tuple((int(start), int(end)) for _, start, end in batch.patch_offsets)


def test_another_filter_than_bilinear_is_left_to_the_readers(paths: list[Path]) -> None:
    chosen = EomtImageProcessor(size={"shortest_edge": 64, "longest_edge": 64}, do_pad=True, resample=3)
    subject = Inputs(chosen, (64, 64), torch.device("cpu"), resize_on_device=True, profile=Profile())
    assert subject.prepare(paths[0]).is_finished


def test_the_host_waits_twice_a_batch(paths: list[Path]) -> None:
    waits: list[str] = []

    class Noted(Profile):
        def stage(self, stage: Any) -> Any:
            waits.append(stage.name)
            return super().stage(stage)

    subject = predictor("panoptic", like_a_gpu=True, profile=Noted(), batch_size=5)
    predicted(subject, paths)
    assert waits.count("writer waits for the GPU") == 2
    assert waits.count("model") == 1


@pytest.mark.parametrize("classes", [EXACT, SOME], ids=["exact", "some"])
@pytest.mark.parametrize("task", TASKS)
def test_the_first_half_asks_the_device_nothing(task: str, classes: ClassMap, paths: list[Path]) -> None:
    """On "meta" there are no values to ask for: what runs there leaves the model's thread free on a GPU."""
    subject = predictor(task, like_a_gpu=True, classes=classes, dtype=torch.bfloat16)
    expected = subject.forward([subject.prepare(path) for path in paths])
    nowhere = torch.device("meta")
    subject._inputs._device = nowhere
    assert subject._passes._fast is not None
    subject._passes._fast.to(nowhere)
    subject._used, subject._rest = subject._used.to(nowhere), subject._rest.to(nowhere)
    found = subject.forward([subject.prepare(path) for path in paths])
    for mine, other in ((found[name], expected[name]) for name in ("masks_queries_logits", "class_queries_logits")):
        assert mine.device == nowhere
        assert (mine.shape, mine.dtype) == (other.shape, other.dtype)


def test_reduced_precision_keeps_most_of_the_segments(paths: list[Path]) -> None:
    (reduced, *_), (exact, *_) = (
        predicted(predictor("semantic", like_a_gpu=True, dtype=dtype), paths)
        for dtype in (torch.bfloat16, torch.float32)
    )
    assert not isinstance(reduced, Failed) and not isinstance(exact, Failed)
    same = np.mean(reduced.segment_map == exact.segment_map)  # type: ignore[union-attr]
    assert 0.8 < same <= 1


def compiled_with(
    monkeypatch: pytest.MonkeyPatch, compile_one: Callable[[Callable[..., Tensor]], Callable[..., Tensor]]
) -> None:
    monkeypatch.setattr(passes, "compiler", lambda: compile_one)


def test_smaller_batches_are_compiled_too(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo.testing import CompileCounter

    torch._dynamo.reset()
    counter = CompileCounter()
    compiled_with(monkeypatch, lambda function: torch.compile(function, dynamic=False, backend=counter))
    subject = predictor("panoptic", like_a_gpu=True, dtype=torch.bfloat16, compiled=True, batch_size=16)
    compiled = []
    while True:
        before = counter.frame_count
        predicted(subject, paths[:1])
        compiled.append(counter.frame_count - before)
        if subject.batch_size == 1:
            break
        subject._passes._halve()
    assert len(compiled) == 5 and compiled == compiled[:1] * 5 and compiled[0] >= 3


def test_compiled_parts_meet_no_new_shape_in_later_batches(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo.testing import CompileCounter

    torch._dynamo.reset()
    counter = CompileCounter()
    compiled_with(monkeypatch, lambda function: torch.compile(function, dynamic=False, backend=counter))
    subject = predictor("panoptic", like_a_gpu=True, dtype=torch.bfloat16, compiled=True)
    predicted(subject, paths)
    met = counter.frame_count
    assert met == 3  # a layer without and with queries, the mask head
    with torch._dynamo.config.patch(error_on_recompile=True):
        for few in (paths[:1], paths[1:4], paths):
            predicted(subject, few)
    assert counter.frame_count == met


def fails_later(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def fail(*arguments: Any) -> Tensor:
        raise RuntimeError("Failed to find C compiler.\nPlease specify via CC environment variable.")

    return fail


def fails_at_once(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    raise RuntimeError("Failed to find C compiler.")


@pytest.mark.parametrize("broken", [fails_later, fails_at_once])
def test_without_a_working_compiler_it_goes_on_and_says_so(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch, broken: Callable[..., Any]
) -> None:
    notes: list[str] = []
    compiled_with(monkeypatch, broken)
    subject = predictor("panoptic", like_a_gpu=True, dtype=torch.bfloat16, compiled=True, note=notes.append)
    found = [*predicted(subject, paths), *predicted(subject, paths)]
    expected = predicted(predictor("panoptic", like_a_gpu=True, dtype=torch.bfloat16), paths)
    assert_same_rows(found, expected * 2)
    assert notes == [
        "Compiling the model with the first batch.",
        "Going on without torch.compile, which does not work here (RuntimeError: Failed to find C compiler.).",
    ]


def test_an_error_that_is_not_the_compilers_is_told(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    subject = predictor("panoptic", like_a_gpu=True, dtype=torch.bfloat16)

    def fail(*arguments: Any) -> Tensor:
        raise RuntimeError("a real fault")

    assert subject._passes._fast is not None
    monkeypatch.setattr(subject._passes._fast, "_run_layer", fail)
    with pytest.raises(RuntimeError, match="a real fault"):
        predicted(subject, paths)


def test_running_out_of_memory_halves_reworked_passes_too(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    notes: list[str] = []
    subject = predictor("panoptic", like_a_gpu=True, dtype=torch.bfloat16, batch_size=8, note=notes.append)
    fast = subject._passes._fast
    assert fast is not None
    usual, sizes = fast.predict, []

    def little_memory(inputs: Tensor) -> tuple[Tensor, Tensor]:
        sizes.append(len(inputs))
        if len(inputs) > 2:
            raise torch.OutOfMemoryError("not enough")
        return usual(inputs)

    monkeypatch.setattr(fast, "predict", little_memory)
    predicted(subject, paths)
    assert sizes == [8, 4, 2, 2, 2]
    assert len(notes) == 2


def test_a_resumed_run_is_compiled_if_it_was() -> None:
    def run(*sessions: dict[str, Any]) -> Any:
        return SimpleNamespace(manifest={"provenance": {"sessions": sessions}})

    def plan(images: int, device: str = "cuda") -> Any:
        return SimpleNamespace(device=torch.device(device), dtype="bfloat16", records=range(images))

    assert _compiled(run(), plan(COMPILE_FROM), None)
    assert not _compiled(run(), plan(5), None)
    assert _compiled(run({"compiled": True}), plan(5), None)
    assert not _compiled(run({"compiled": False}), plan(COMPILE_FROM), None)
    assert _compiled(run({"batch_size": 16}), plan(COMPILE_FROM), None)  # of an older version
    assert not _compiled(run({"compiled": True}), plan(5, "cpu"), None)
    assert not _compiled(run({"compiled": True}), plan(5), False)


def test_compiling_is_for_long_runs_of_reduced_precision_on_a_gpu() -> None:
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    assert choose_compiled(None, gpu, "bfloat16", COMPILE_FROM)
    assert not choose_compiled(None, gpu, "bfloat16", COMPILE_FROM - 1)
    assert not choose_compiled(None, gpu, "float32", 10**6)
    assert not choose_compiled(None, cpu, "bfloat16", 10**6)
    assert choose_compiled(True, gpu, "float16", 1)
    assert not choose_compiled(False, gpu, "bfloat16", 10**6)
    for device, dtype in ((cpu, "bfloat16"), (gpu, "float32")):
        with pytest.raises(OptionError, match="--compile"):
            choose_compiled(True, device, dtype, 10**6)

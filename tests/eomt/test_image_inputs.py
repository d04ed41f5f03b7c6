import numpy as np
import pytest
import torch
from PIL import Image

from eomt.errors import ImageInputError
from eomt.image_inputs import label_array, list_images, rgb_tensor
from tests.reference.oracles import transformers_processors

TransformersProcessor, TransformersProcessorPil = transformers_processors()


def photo(mode, size=(7, 5)):
    """A random Pillow image of a mode; `size` is (width, height)."""
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    if mode in ("RGBA", "LA", "PA"):
        rgb.putalpha(Image.fromarray(rng.integers(0, 256, (size[1], size[0]), dtype=np.uint8)))
    return rgb.convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "CMYK", "RGBA", "LA", "PA", "YCbCr", "HSV"])
def test_every_mode_becomes_rgb_as_transformers_does_when_asked(mode):
    theirs = TransformersProcessor().process_image(photo(mode), do_convert_rgb=True)
    assert torch.equal(rgb_tensor(photo(mode)), theirs)


def test_a_palette_with_a_transparent_colour_is_laid_on_white():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    image.info["transparency"] = 1
    assert rgb_tensor(image).permute(1, 2, 0).tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_exif_orientation_is_not_applied(tmp_path):
    image = photo("RGB", (8, 4))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown rotated by 90 degrees
    image.save(tmp_path / "rotated.jpg", exif=exif)
    assert rgb_tensor(tmp_path / "rotated.jpg").shape == (3, 4, 8)


@pytest.mark.parametrize("mode", ["I", "F", "I;16"])
def test_more_than_eight_bits_are_refused(mode):
    with pytest.raises(ImageInputError, match="image 3 has mode"):
        rgb_tensor(Image.new(mode, (4, 4)), where="image 3")


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_arrays_become_channels_first_rgb_as_in_transformers(channels, dtype):
    rng = np.random.default_rng(channels)
    array = rng.integers(0, 256, (6, 5, channels)).astype(np.uint8)
    if dtype == np.float32:
        array = (array / 255).astype(np.float32)
    theirs = TransformersProcessor().process_image(array, do_convert_rgb=True)
    for given in (array, np.moveaxis(array, -1, 0), torch.from_numpy(array)):
        assert torch.equal(rgb_tensor(given), theirs)


def test_a_greyscale_array_is_repeated_over_three_channels():
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert rgb_tensor(array).tolist() == [array.tolist()] * 3


def test_the_channel_axis_can_be_told():
    array = np.zeros((3, 5, 3), dtype=np.uint8)
    assert rgb_tensor(array).shape == (3, 5, 3)
    assert rgb_tensor(array, "channels_last").shape == (3, 3, 5)
    with pytest.raises(ImageInputError, match="input_data_format 'last'"):
        rgb_tensor(array, "last")


@pytest.mark.parametrize("shape", [(5, 6, 7), (4,), (1, 2, 3, 4)])
def test_shapes_that_are_no_image_are_refused(shape):
    with pytest.raises(ImageInputError, match=r"image 0 has shape \("):
        rgb_tensor(np.zeros(shape, dtype=np.uint8), where="image 0")


def test_images_are_listed_from_every_nesting():
    single = np.zeros((4, 5, 3), dtype=np.uint8)
    assert len(list_images(single)) == 1
    assert len(list_images(photo("RGB"))) == 1
    assert len(list_images(np.stack([single, single]))) == 2
    assert len(list_images([single, photo("L"), torch.zeros(3, 4, 4)])) == 3
    assert len(list_images([[single], [single, single]])) == 3
    assert len(list_images(np.zeros((2, 4, 5), dtype=np.uint8), ndim=2)) == 2
    assert list_images([]) == []


def test_a_file_that_is_no_image_is_named(tmp_path):
    path = tmp_path / "broken.jpg"
    path.write_bytes(b"not a JPEG")
    with pytest.raises(ImageInputError, match=r"broken\.jpg: cannot be read as an image"):
        rgb_tensor(path)
    with pytest.raises(ImageInputError, match=r"missing\.jpg: cannot be read"):
        rgb_tensor(str(tmp_path / "missing.jpg"))


def test_addresses_and_other_objects_are_refused():
    with pytest.raises(ImageInputError, match="not fetched here"):
        rgb_tensor("https://example.org/cat.jpg")
    with pytest.raises(ImageInputError, match="cannot be a int"):
        list_images(7)


def test_a_label_map_is_read_from_a_palette_image_an_array_or_a_tensor():
    indices = np.array([[0, 3], [255, 7]], dtype=np.uint8)
    image = Image.fromarray(indices)
    image.putpalette([i % 256 for i in range(768)])
    for given in (image, indices, torch.from_numpy(indices), indices.astype(np.float32)):
        assert label_array(given).dtype == np.int64
        assert label_array(given).tolist() == indices.tolist()


def test_what_is_no_label_map_is_refused():
    with pytest.raises(ImageInputError, match=r"segmentation map 2 has shape \(5, 7, 3\)"):
        label_array(photo("RGB"), "segmentation map 2")
    with pytest.raises(ImageInputError, match="holds fractions"):
        label_array(np.array([[0.5, 1.0]]))

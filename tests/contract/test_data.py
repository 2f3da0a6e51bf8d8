"""What every transform and every data set owe PaddleSeg's loop and our commands."""

import inspect

import numpy as np
import pytest
from registered import component, registered
from tiny_data import HEIGHT, WIDTH, make_data

from ppliteseg_paddle import register
from ppliteseg_paddle.data.dataset import StreetScenes
from ppliteseg_paddle.errors import DataError

every_transform = pytest.mark.parametrize("target", registered("TRANSFORMS"))
every_dataset = pytest.mark.parametrize("target", registered("DATASETS"))
# Values for arguments that have no default.
ARGUMENTS = {"crop_size": [32, 24], "rare_classes": [8]}


@pytest.fixture
def root(tmp_path):
    return str(make_data(tmp_path / "data", train=3, val=2))


def transform(target, root):
    """The transform with its defaults, as PaddleSeg's `Compose` calls it. One that takes from other images has a data
    set."""
    from paddleseg.transforms import Compose

    parameters = inspect.signature(component(target)).parameters.values()
    needed = [parameter.name for parameter in parameters if parameter.default is inspect.Parameter.empty]
    step = component(target)(**{name: ARGUMENTS[name] for name in needed})
    if hasattr(step, "attach"):
        step.attach(StreetScenes(transforms=[], dataset_root=root))
    return Compose([step])


def sample(seed):
    generator = np.random.default_rng(seed)
    return {
        "img": generator.integers(0, 256, (HEIGHT, WIDTH, 3)).astype("float32"),
        "label": generator.integers(0, 11, (HEIGHT, WIDTH)).astype("uint8"),
        "gt_fields": ["label"],
        "trans_info": [],
    }


@every_transform
def test_image_and_label_come_out_of_one_size_as_the_network_takes_them(target, root):
    step = transform(target, root)
    for seed in range(5):
        result = step(sample(seed))
        assert result["img"].dtype == np.float32 and result["img"].shape[0] == 3
        assert result["img"].shape[1:] == result["label"].shape and np.isfinite(result["img"]).all()
        assert set(np.unique(result["label"])) <= {*range(11), 255}


@every_transform
def test_the_global_seed_decides_what_is_drawn(target, root):
    step, results = transform(target, root), []
    for _ in range(2):
        np.random.seed(3)
        results.append(step(sample(1)))
    np.testing.assert_array_equal(results[0]["img"], results[1]["img"])
    np.testing.assert_array_equal(results[0]["label"], results[1]["label"])


@every_dataset
@pytest.mark.parametrize("mode, count, label_shape", [("train", 3, (HEIGHT, WIDTH)), ("val", 2, (1, HEIGHT, WIDTH))])
def test_items_are_what_the_loop_reads(target, root, mode, count, label_shape):
    dataset = component(target)(transforms=[], dataset_root=root, mode=mode)
    assert len(dataset) == count
    for item in (dataset[index] for index in range(count)):
        assert item["img"].dtype == np.float32 and item["img"].shape == (3, HEIGHT, WIDTH)
        assert item["label"].shape == label_shape
        assert set(np.unique(item["label"])) <= {*range(dataset.num_classes), dataset.ignore_index}
        assert item["trans_info"] == [] and item["gt_fields"] == (["label"] if mode == "train" else [])


@every_dataset
def test_it_states_its_classes_as_paddleseg_and_we_ask_for_them(target, root):
    dataset = component(target)(transforms=[], dataset_root=root, mode="val")
    assert dataset.num_classes == dataset.NUM_CLASSES == len(dataset.label_set.classes)
    assert len(dataset.label_set.palette) == dataset.num_classes
    assert dataset.ignore_index == dataset.IGNORE_INDEX and dataset.ignore_index >= dataset.num_classes
    assert dataset.img_channels == dataset.IMG_CHANNELS == 3
    assert [len(pair) for pair in dataset.file_list] == [2, 2]


@every_dataset
def test_a_label_beyond_its_classes_is_refused_with_the_file(target, root):
    from PIL import Image

    dataset = component(target)(transforms=[], dataset_root=root, mode="train")
    Image.fromarray(np.full((HEIGHT, WIDTH), dataset.num_classes, np.uint8)).save(dataset.file_list[1][1])
    with pytest.raises(DataError, match="01.png"):
        dataset[1]


@every_dataset
def test_paddleseg_builds_it_by_its_name(target, root):
    from paddleseg.cvlibs import manager

    register()
    name = target.split(":")[1]
    assert len(manager.DATASETS[name](transforms=[], dataset_root=root, mode="train")) == 3

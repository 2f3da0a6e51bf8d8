import pytest
from tiny_data import make_data, values, write_config

from ppliteseg_paddle.engine import build
from ppliteseg_paddle.engine.device import select_device
from ppliteseg_paddle.errors import ConfigError, DataError, WeightsError
from ppliteseg_paddle.registry import register


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("build") / "data")


@pytest.fixture
def config_of(root, tmp_path):
    def make(change=lambda content: None, **kwargs):
        content = values(root)
        change(content)
        return build.load_config(write_config(tmp_path / "c.yml", content), **kwargs)

    return make


def test_the_configuration_is_one_that_paddlesegs_builder_takes(config_of):
    from paddleseg.cvlibs import Config, SegBuilder

    config = config_of()
    assert isinstance(config, Config)
    builder = SegBuilder(config)
    assert len(builder.train_dataset) == 8
    assert len(builder.loss["types"]) == 3


def test_paddlesegs_own_config_builds_the_same_file(root, tmp_path):
    register()
    from paddleseg.cvlibs import Config, SegBuilder

    builder = SegBuilder(Config(write_config(tmp_path / "c.yml", values(root))))
    assert type(builder.train_dataset).__name__ == "StreetScenes"
    assert type(builder.loss["types"][0]).__name__ == "CELoss"


def test_a_saved_configuration_reads_back_to_the_same_values(config_of, tmp_path):
    config = config_of(opts=["model.head.fusion=add"], iters=7)
    build.save_config(config, str(tmp_path / "saved.yml"))
    assert build.load_config(str(tmp_path / "saved.yml")).dic == config.dic


def test_type_dataset_is_read_with_our_checks(config_of, root):
    def own_data(content):
        for mode in ("train", "val"):
            content[mode + "_dataset"].update(
                {"type": "Dataset", "num_classes": 11, mode + "_path": str(root / (mode + ".txt"))}
            )
        del content["model"]["num_classes"]

    config = config_of(own_data)
    assert type(build.build_train_dataset(config)).__name__ == "CheckedDataset"
    assert config.dic["model"]["num_classes"] == 11  # filled in by PaddleSeg's own rule
    assert build.num_classes_of(config) == 11


def test_building_says_nothing_unless_asked(config_of, capsys):
    build.build_train_dataset(config_of())
    assert capsys.readouterr().out == ""
    build.build_train_dataset(config_of(), verbose=True)
    assert "StreetScenes" in capsys.readouterr().out


def message(kind, call, *args):
    with pytest.raises(kind) as caught:
        call(*args)
    assert "\n" not in str(caught.value) and "Tried to create" not in str(caught.value)
    return str(caught.value)


def test_our_error_in_a_component_arrives_unwrapped(config_of):
    assert "model.neck.in_channels is 100" in message(
        ConfigError, build.build_model, config_of(opts=["model.neck.in_channels=100"])
    )


def test_an_error_of_paddlesegs_component_names_its_key(config_of):
    config = config_of(opts=["train_dataset.transforms=[{'type': 'Resize', 'target_size': 3}]"])
    assert message(ConfigError, build.build_train_dataset, config).startswith(
        "--opts train_dataset.transforms.0: Resize could not be built: "
    )


def test_a_failed_rule_of_paddleseg_is_one_line(config_of):
    def mixed(content):
        content["train_dataset"].update(type="Dataset", num_classes=11, train_path="x")

    assert "type of train_dataset and val_dataset must be the same" in message(ConfigError, config_of, mixed)


def test_a_missing_root_names_its_key_variable_and_the_way_to_get_data(config_of, tmp_path):
    def elsewhere(content):
        content["train_dataset"]["dataset_root"] = f"${{TINY_MISSING_ROOT:-{(tmp_path / 'none')}}}"

    text = message(DataError, build.build_train_dataset, config_of(elsewhere))
    both = message(
        DataError,
        build.build_train_dataset,
        config_of(lambda c: [c[k].update(dataset_root="none") for k in ("train_dataset", "val_dataset")]),
    )
    assert "--opts train_dataset.dataset_root=DIR val_dataset.dataset_root=DIR." in both
    assert "none does not exist. It is set by" in text
    assert "--opts train_dataset.dataset_root=DIR or the environment variable TINY_MISSING_ROOT." in text
    assert text.endswith(f"Make it with: ppliteseg data synth --out {(tmp_path / 'none')}")


def test_no_val_dataset_is_reported(config_of):
    assert "there is no val_dataset" in message(
        ConfigError, build.build_val_dataset, config_of(lambda c: c.pop("val_dataset"))
    )


def test_pretrained_is_skipped_where_weights_follow(config_of):
    config = config_of(opts=["model.backbone.pretrained='none.pdparams'"])
    assert type(build.build_model(config, pretrained=False)).__name__ == "PPLiteSegNet"
    assert "none.pdparams does not exist" in message(WeightsError, build.build_model, config)
    assert config.dic["model"]["backbone"]["pretrained"] == "none.pdparams"


@pytest.mark.parametrize(
    "images, batch, ranks, expected",
    [
        (3, 4, 1, "has 3 images, fewer than one batch of 4. Use --batch_size 3"),
        (1, 4, 1, "has 1 image, fewer"),
        (7, 4, 2, None),
        (8, 4, 2, None),
        (6, 4, 2, "has 6 images (3 on each of 2 devices), fewer than one batch of 4"),
        (4, 4, 1, None),
    ],
)
def test_a_data_set_smaller_than_one_batch_is_reported(images, batch, ranks, expected):
    if expected is None:
        build.check_dataset_size(range(images), batch, ranks)
    else:
        assert expected in message(DataError, build.check_dataset_size, range(images), batch, ranks)


def test_class_names_come_from_the_data_set_a_file_or_numbers(config_of, root, tmp_path):
    assert build.label_set_of(config_of()).classes[:2] == ("sky", "building")

    def own_data(content):
        for mode in ("train", "val"):
            content[mode + "_dataset"].update(
                {"type": "Dataset", "num_classes": 2, "dataset_root": str(tmp_path), mode + "_path": "x"}
            )
        content["model"]["num_classes"] = 2

    assert build.label_set_of(config_of(own_data)).classes == ("class_0", "class_1")
    (tmp_path / "classes.txt").write_text("free\noccupied\n")
    named = build.label_set_of(config_of(own_data))
    assert named.classes == ("free", "occupied") and len(named.palette) == 2


def test_the_configurations_palette_colors_the_classes(config_of):
    own = [[10 * i, 255 - i, i] for i in range(11)]
    found = build.label_set_of(config_of(lambda content: content.update(palette=own)))
    assert [list(color) for color in found.palette] == own
    assert found.classes == build.label_set_of(config_of()).classes
    short = config_of(lambda content: content.update(palette=own[:3]))
    assert message(ConfigError, build.label_set_of, short).endswith(
        "palette: 3 colors for 11 classes: give one [red, green, blue] for each class, in the order of their ids."
    )


def test_the_device_is_chosen_and_explained():
    import paddle

    if paddle.is_compiled_with_cuda():
        assert select_device("cpu") == ("cpu", "as asked")
        return
    chosen, why = select_device(None)
    assert chosen == "cpu" and why == f"the installed Paddle {paddle.__version__} is a CPU build"
    assert "is a CPU build. Use --device cpu, or install" in message(ConfigError, select_device, "gpu")


@pytest.mark.parametrize(
    "name, expected",
    [
        ("cuda", "unknown device 'cuda'."),
        ("gpuu", "Did you mean 'gpu'"),
        ("gpu:x", "unknown device 'gpu:x'"),
        ("cpu:0", "unknown device 'cpu:0': give cpu."),
        ("gpu:", "give gpu, or with a number, as in gpu:0."),
        ("mlu", "was built without it. Use --device cpu"),
    ],
)
def test_an_unknown_device_is_one_line(name, expected):
    assert expected in message(ConfigError, select_device, name)


def test_a_training_set_without_a_list_is_named_by_its_folder():
    class Listless(list):
        list_path, dataset_root = None, "data/mine"

    with pytest.raises(DataError, match="the training set data/mine has 1 image, fewer"):
        build.check_dataset_size(Listless([1]), 2)

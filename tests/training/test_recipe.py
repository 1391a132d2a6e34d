import dataclasses
import tomllib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfeat.errors import InputError
from kfeat.models import catalog
from kfeat.training import recipe as recipes

VALUES = {
    "split": st.text(st.characters(blacklist_categories=["Cs"]), max_size=8),
    "limit": st.integers(0, 10**9),
    "validation": st.floats(0, 0.9),
    "epochs": st.integers(1, 999_999),
    "learning_rate": st.floats(1e-12, 1e3),
    "flip": st.booleans(),
    "optimizer": st.sampled_from(["sgd", "adamw"]),
}


@given(st.fixed_dictionaries({}, optional=VALUES))
def test_toml_round_trip(changes):
    recipe = recipes.compose("cae1", **changes)
    read = recipes.checked(tomllib.loads(recipes.to_toml(recipe)), "test")
    assert read == dataclasses.asdict(recipe)


def test_every_encoder_has_a_recipe_and_every_recipe_composes():
    assert set(catalog.ENCODERS) <= set(recipes.shipped())
    for name, file in recipes.shipped().items():
        model = tomllib.loads(file.read_text())["model"]
        assert recipes.compose(model, name).model == model


def test_numbers_of_numpy_and_paths_are_taken(tmp_path):
    changes = {"epochs": np.int64(5), "learning_rate": np.float32(0.5), "flip": np.bool_(True)}
    recipe = recipes.compose("cae1", data=tmp_path, **changes)
    assert (recipe.epochs, recipe.learning_rate, recipe.flip) == (5, 0.5, True)
    assert recipe.data == str(tmp_path) and type(recipe.epochs) is int
    for wrong in ({"epochs": np.float64(5)}, {"epochs": np.arange(2)}, {"data": 5}):
        with pytest.raises(InputError, match=f"options: {next(iter(wrong))} must be a"):
            recipes.compose("cae1", **wrong)
    with pytest.raises(InputError, match="model of type int"):
        recipes.compose(5)


def test_another_data_set_drops_the_split_of_the_recipe():
    assert recipes.compose("cae1").split == "unlabelled"
    assert recipes.compose("cae1", data="cifar10").split == ""
    assert recipes.compose("cae1", data="cifar10", split="test").split == "test"


@pytest.mark.parametrize(
    "settings, words",
    [
        (["learning_rat=1"], "learning_rat.*did you mean 'learning_rate'"),
        (["colour=1"], "unknown key 'colour'; known keys are"),
        (["epochs=many"], "epochs must be a whole number, not 'many'"),
        (["epochs=1.5"], "epochs must be a whole number, not 1.5"),
        (["epochs=true"], "epochs must be a whole number, not True"),
        (["learning_rate=true"], "learning_rate must be a number, not True"),
        (["learning_rate=1" + 400 * "0"], "learning_rate must be a number, not 1000"),
        (["epochs=0"], "epochs must be from 1 to 999999, not 0"),
        (["features=new"], "features must be one of keep, renew, not 'new'"),
        (["freeze_batch_norm=1"], "freeze_batch_norm must be true or false, not 1"),
        (["backbone_multiplier=-1"], "backbone_multiplier must be from 0 to 1000"),
        (["weights=true"], "weights must be a text, not True"),
        (["flip=1"], "flip must be true or false, not 1"),
        (["optimizer=adamv"], "optimizer must be one of sgd, muon, adam, adamw.*did you mean"),
        (["epochs=1000000"], "epochs must be from 1 to 999999"),
        (["validation=1"], "validation must be from 0 to 0.9"),
        (["epochs"], "write it as key=value"),
    ],
)
def test_wrong_settings_name_the_key(settings, words):
    with pytest.raises(InputError, match=words):
        recipes.parse_settings(settings)


def test_adam_has_no_weight_decay():
    with pytest.raises(InputError, match="weight_decay does not apply to the optimizer adam"):
        recipes.compose("cae1", optimizer="adam")
    assert recipes.compose("cae1", optimizer="adam", weight_decay=0.0).optimizer == "adam"


def test_residual_blocks_start_at_zero_only_where_weights_are_random():
    assert recipes.compose("resnet50", weights="none", zero_init_residual=True).zero_init_residual
    with pytest.raises(InputError, match="zero_init_residual does not apply to cae1"):
        recipes.compose("cae1", zero_init_residual=True)
    with pytest.raises(InputError, match="to random weights only, not to weights imagenet"):
        recipes.compose("resnet50", weights="imagenet", zero_init_residual=True)


def test_squares_are_erased_only_where_labels_are_learnt():
    assert recipes.compose("resnet18", data="photos", erase=16).erase == 16
    with pytest.raises(InputError, match="erase does not apply to unet"):
        recipes.compose("unet", erase=16)
    with pytest.raises(InputError, match="erase must be less than image_size, 64 pixels"):
        recipes.compose("resnet18", image_size=64, erase=64)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"early_epochs": 2}, "early_epochs does nothing without early_image_size"),
        ({"early_image_size": 64}, "early_image_size does nothing without early_epochs"),
        ({"early_image_size": 96, "early_epochs": 2}, "must be less than image_size, 96 pixels"),
        ({"early_image_size": 16, "early_epochs": 2}, "cannot take images of 16 pixels"),
        ({"early_image_size": 64, "early_epochs": 9}, "early_epochs, 9, must be less than epochs"),
    ],
)
def test_smaller_images_come_first_or_not_at_all(changes, words):
    with pytest.raises(InputError, match=words):
        recipes.compose("resnet18", data="photos", image_size=96, epochs=9, **changes)
    with pytest.raises(InputError, match="early_epochs does not apply to cae1, whose weights"):
        recipes.compose("cae1", image_size=96, epochs=9, early_image_size=64, early_epochs=2)


def test_settings_are_toml_or_text():
    parsed = recipes.parse_settings(["learning_rate=1", "flip=true", "data=~/pictures"])
    assert parsed == {"learning_rate": 1.0, "flip": True, "data": "~/pictures"}


def test_a_file_is_read_and_its_errors_name_it(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("epochs = 3\n")
    with pytest.raises(InputError, match="mine.toml lacks data, image_size, batch_size"):
        recipes.compose("cae1", str(file))
    whole = (recipes.folder() / "cae1-demo.toml").read_text()
    file.write_text("\ufeff" + whole)  # as some editors begin a file
    assert recipes.compose("cae1", str(file)) == recipes.compose("cae1", "cae1-demo")
    for broken in ("epochs = \n", f"epochs = {'[' * 100_000}"):
        file.write_text(broken)
        with pytest.raises(InputError, match="mine.toml is not valid TOML"):
            recipes.compose("cae1", str(file))
    with pytest.raises(InputError, match=r"nothing.toml cannot be read \(No such file"):
        recipes.compose("cae1", "nothing.toml")
    with pytest.raises(InputError, match="did you mean 'resnet18-local'"):
        recipes.compose("resnet18", "resnet18-locale")
    with pytest.raises(InputError, match="recipe resnet18 is for the model 'resnet18'"):
        recipes.compose("cae1", "resnet18")
    with pytest.raises(InputError, match="cae1 cannot take images of 100 pixels"):
        recipes.compose("cae1", image_size=100)

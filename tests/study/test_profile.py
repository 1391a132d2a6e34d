import pytest

from kfeat.errors import InputError
from kfeat.reporting import published
from kfeat.study import profile

MINE = """
test = "photos"
seeds = [0, 1]
repeats = 2
[trainings.first]
recipe = "resnet18-pretrain"
[trainings.second]
recipe = "resnet18-local"
weights = "first"
epochs = 2
[table1]
"ResNet18" = "second"
"""


@pytest.fixture
def read(tmp_path):
    def of(text):
        (tmp_path / "mine.toml").write_text(text)
        return profile.read(str(tmp_path / "mine.toml"))

    return of


@pytest.mark.parametrize("name", ["paper", "local", "demo"])
def test_kfeats_own_have_a_training_for_every_row_of_the_study(name):
    own = profile.read(name)
    for table, rows in published.tables().items():
        assert set(own.tables[table]) == set(rows)
        for row, training in own.tables[table].items():
            model = own.recipe(training, 0).model
            assert published.ENCODERS[model] == row.removesuffix(" crossed")


def test_a_training_is_a_recipe_with_changes(read):
    mine = read(MINE)
    recipe = mine.recipe("second", 1)
    assert (recipe.model, recipe.epochs, recipe.seed) == ("resnet18", 2, 1)
    assert (mine.parent("second"), mine.parent("first")) == ("first", None)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"photos"', "3", "test is missing, or of the wrong type"),
        ("repeats", "repeat", "unknown key 'repeat'; did you mean 'repeats'"),
        ("[0, 1]", "[]", "seeds must be whole numbers"),
        ('"second"', '"secund"', "no training 'secund'; did you mean 'second'"),
        ('"ResNet18"', '"ResNet19"', "table1 has no row 'ResNet19'; did you mean"),
        ('"resnet18-pretrain"', '"nope"', "recipe nope cannot be read"),
        ("epochs = 2", "epoch = 2", "did you mean 'epochs'"),
        ('recipe = "resnet18-pretrain"', 'recipe = "resnet18"\nweights = "second"', "from itself"),
        ("test =", "test", "is not valid TOML"),
        ("[0, 1]", "[0, 0]", "one stands there twice"),
        ("repeats = 2", "repeats = 2\nnote = 3", "note must be a text"),
        ("repeats = 2", "repeats = true", "repeats must be a whole number"),
        ('= "second"', '= ["second"]', "no training \\['second'\\]"),
        ('weights = "first"', 'weights = ["first"]', "weights must be a text"),
        ("epochs = 2", 'file = "x"', "unknown key 'file'"),
        ("epochs = 2", 'model = "cae1"', "model: the recipe decides it"),
        ("epochs = 2", "seed = 1", "seed: the profile's seeds decide it"),
        ("trainings.first", 'trainings."../first"', r"'\.\./first': folders are called after it"),
        ("trainings.first", "trainings.none", "'none': folders are called after it, and weights"),
        ("epochs = 2", 'resize = "stretch"', "resize 'stretch': its test images are cropped"),
        ('"resnet18-local"', '"resnet34-local"', "of resnet34 and cannot start from first, of"),
    ],
)
def test_what_is_wrong_is_named(read, old, new, words):
    with pytest.raises(InputError, match=words):
        read(MINE.replace(old, new, 1))

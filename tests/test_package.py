import configparser
import os
import subprocess
import sys

import kfeat

from .conftest import REPOSITORY


def test_every_room_and_the_recipes_are_installed():
    config = configparser.ConfigParser()
    config.read(REPOSITORY / "setup.cfg")
    listed = set(config["options"]["packages"].split())
    rooms = {f"kfeat.{file.parent.name}" for file in (REPOSITORY / "kfeat").glob("*/__init__.py")}
    assert listed == {"kfeat", "kfeat.recipes"} | rooms


def test_public_names_are_there_and_importing_is_light():
    code = "import kfeat, sys; print([m for m in ('numpy', 'tensorflow') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "[]\n"
    for name in kfeat.__all__:
        assert callable(getattr(kfeat, name))


def test_tensorflow_computes_by_onednn_unless_the_user_says_otherwise():
    code = "import kfeat, os; print(os.environ['TF_ENABLE_ONEDNN_OPTS'])"
    command = [sys.executable, "-c", code]
    unset = {k: v for k, v in os.environ.items() if k != "TF_ENABLE_ONEDNN_OPTS"}
    assert subprocess.check_output(command, env=unset) == b"1\n"
    assert subprocess.check_output(command, env=unset | {"TF_ENABLE_ONEDNN_OPTS": "0"}) == b"0\n"

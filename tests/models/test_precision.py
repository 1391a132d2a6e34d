import pytest

from kfeat.errors import InputError
from kfeat.models.precision import resolve


def test_bfloat16_is_taken_where_it_is_fast_and_said_to_be_slow_elsewhere():
    chosen, why = resolve("auto")
    asked, because = resolve("bfloat16")
    assert asked == "bfloat16" and ("slow" in because) == (chosen == "float32")
    assert why in because or chosen == "bfloat16"
    assert resolve("float32") == ("float32", "as asked for")


def test_another_precision_is_refused():
    with pytest.raises(InputError, match="float16.*choose one of auto, float32, bfloat16"):
        resolve("float16")

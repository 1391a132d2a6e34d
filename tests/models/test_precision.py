import pytest
import tensorflow as tf

from kfeat.errors import InputError
from kfeat.models import processor
from kfeat.models.precision import resolve


@pytest.mark.parametrize(
    ("capabilities", "flags", "fastest", "words"),
    [
        ([], [], "float32", "the processor does not compute in bfloat16"),
        ([], ["avx512_bf16"], "bfloat16", "the processor computes in it (avx512_bf16)"),
        ([(9, 0)], [], "bfloat16", "the GPU computes in it"),
        ([(9, 0), (7, 5)], ["avx512_bf16"], "float32", "the GPU does not compute in bfloat16"),
        ([None], ["avx512_bf16"], "float32", "the GPU does not compute in bfloat16"),
    ],
)
def test_bfloat16_is_taken_where_the_hardware_computes_in_it(
    capabilities, flags, fastest, words, monkeypatch
):
    def details(gpu):
        return {"compute_capability": gpu} if gpu else {}

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: capabilities)
    monkeypatch.setattr(tf.config.experimental, "get_device_details", details)
    monkeypatch.setattr(processor, "bfloat16_flags", lambda: flags)
    chosen, why = resolve("auto")
    assert chosen == fastest
    assert why == words
    slow = "" if fastest == "bfloat16" else f", though {why}: slow"
    assert resolve("bfloat16") == ("bfloat16", "as asked for" + slow)
    assert resolve("float32") == ("float32", "as asked for")


def test_another_precision_is_refused():
    with pytest.raises(InputError, match="float16.*choose one of auto, float32, bfloat16"):
        resolve("float16")

"""The precision in which an encoder computes."""

from __future__ import annotations

from kfeat.errors import InputError
from kfeat.models import processor

RESOLVED = ("float32", "bfloat16")
"""What an encoder computes in."""

PRECISIONS = ("auto", *RESOLVED)


def resolve(precision: str) -> tuple[str, str]:
    """Say which precision ``"auto"`` is on this machine.

    bfloat16 is taken where the hardware computes in it: a GPU of compute capability 8.0 or more;
    without a GPU, a processor with AMX or AVX512-BF16. Elsewhere it would be emulated, and slow.

    Args:
        precision: one of `PRECISIONS`.

    Returns:
        ``"float32"`` or ``"bfloat16"``, and the reason, for people.

    Raises:
        InputError: no such precision.
    """
    if precision not in PRECISIONS:
        raise InputError(f"precision {precision!r}: choose one of {', '.join(PRECISIONS)}")
    if precision == "float32":
        return precision, "as asked for"
    chosen, why = _fastest()
    if precision == "bfloat16":
        return precision, "as asked for" + (f", though {why}: slow" if chosen != precision else "")
    return chosen, why


def _fastest() -> tuple[str, str]:
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
        if all(gpu.get("compute_capability", (0,)) >= (8, 0) for gpu in details):
            return "bfloat16", "the GPU computes in it"
        return "float32", "the GPU does not compute in bfloat16"
    if found := processor.bfloat16_flags():
        return "bfloat16", f"the processor computes in it ({', '.join(found)})"
    return "float32", "the processor does not compute in bfloat16"

"""What runs an encoder: TensorFlow, or OpenVINO where it is installed."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import itertools
import logging
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from kfeat.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf

ENGINES = ("auto", "tensorflow", "openvino")

Run = Callable[[Iterable["np.ndarray"]], Iterator["np.ndarray"]]
"""From batches of images, uint8 [N, S, S, 3], to their vectors [N, D], in order."""


def choose(engine: str) -> str:
    """Say what ``"auto"`` is: OpenVINO, the fastest on a processor, where it is installed.

    Raises:
        InputError: no such engine, or OpenVINO is asked for and not installed.
    """
    if engine not in ENGINES:
        raise InputError(f"engine {engine!r}: choose one of {', '.join(ENGINES)}")
    installed = importlib.util.find_spec("openvino") is not None
    if engine == "openvino" and not installed:
        raise InputError("engine openvino is not installed: pip install 'kfeat[openvino]'")
    if engine == "auto":
        return "openvino" if installed and not _gpus() else "tensorflow"
    return engine


def _gpus() -> list:
    import tensorflow as tf

    return tf.config.list_physical_devices("GPU")


def tensorflow(call: Callable[[tf.Tensor], tf.Tensor], dtype: tf.DType) -> Run:
    """Run by TensorFlow.

    Args:
        call: images [N, S, S, 3] of type ``dtype`` -> vectors [N, D].
        dtype: the type of the images that it takes.
    """
    import tensorflow as tf

    def run(batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for images in batches:
            yield tf.cast(call(tf.cast(images, dtype)), tf.float32).numpy()

    return run


def openvino(graph: Any, output: str | None, shape: tuple[int | None, ...], precision: str) -> Run:
    """Run by OpenVINO: several batches at a time, each on a part of the processor.

    Args:
        graph: a concrete function of TensorFlow's, or the path of a SavedModel.
        output: the name of the one of its outputs that the vectors are; None for the first
            of a concrete function's.
        shape: of a batch of images, [N, S, S, 3]; None where it may be any.
        precision: ``"float32"`` or ``"bfloat16"``.

    Raises:
        InputError: OpenVINO cannot run the graph, or not in this precision.
    """
    import numpy as np

    try:
        import openvino as ov
        from openvino.preprocess import PrePostProcessor

        # Weights that are shared die with the graph, while OpenVINO still computes with them.
        # The converter takes Ctrl-C for an error of its own.
        with _keeping_logging(), _holding_ctrl_c():
            model = ov.convert_model(graph, share_weights=False)
        model.reshape([size or -1 for size in shape])
        index = 0
        if output is None:  # of a function that returns one thing
            output = graph.outputs[0].name
        if len(model.outputs) > 1:
            places = [n for n, found in enumerate(model.outputs) if output in found.names]
            if not places:  # the state of a layer that draws random numbers, say
                raise ValueError(f"its {len(model.outputs)} outputs cannot be told apart")
            index = places[0]
        steps = PrePostProcessor(model)
        steps.input().tensor().set_element_type(ov.Type.u8)
        steps.output(index).tensor().set_element_type(ov.Type.f32)
        hint = {"float32": "f32", "bfloat16": "bf16"}[precision]
        options = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "THROUGHPUT"}
        with _keeping_signal_stack():
            compiled = ov.Core().compile_model(steps.build(), "CPU", options)
    except Exception as error:  # anybody's graph makes the converter stumble in any way
        raise InputError(f"OpenVINO cannot run it ({_reason(error)})") from None
    computed = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if computed != hint:
        raise InputError(f"OpenVINO computes in {computed} on this processor, not in {precision}")
    at_once = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")

    def run(batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        # Each run its own ones: another may go on meanwhile, in this thread or another.
        requests = [compiled.create_infer_request() for _ in range(at_once)]
        running: deque = deque()
        try:
            for request, images in zip(itertools.cycle(requests), batches):
                if len(running) == len(requests):
                    yield vectors(running.popleft())
                request.start_async({0: np.ascontiguousarray(images)})
                running.append(request)
            while running:
                yield vectors(running.popleft())
        finally:
            for request in running:
                request.wait()

    def vectors(request: Any) -> np.ndarray:
        request.wait()
        return request.get_output_tensor(index).data.copy()

    return run


class _SignalStack(ctypes.Structure):
    """Linux's ``stack_t``: where a thread's signal handlers run, if not on its own stack."""

    _fields_ = (("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextlib.contextmanager
def _keeping_signal_stack() -> Iterator[None]:
    """Give this thread back the signal stack that it had.

    A compiled model of OpenVINO's gives the thread one of its own, and when it is freed that of
    the model before it, which may be gone: the next Ctrl-C would end the process by SIGSEGV.
    """
    if sys.platform != "linux":
        yield
        return
    libc, before = ctypes.CDLL(None), _SignalStack()
    libc.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        libc.sigaltstack(ctypes.byref(before), None)


@contextlib.contextmanager
def _keeping_logging() -> Iterator[None]:
    """Give the root logger back what it had: the converter, failing, leaves it silent."""
    root = logging.getLogger()
    level, filters, handlers = root.level, root.filters[:], root.handlers[:]
    try:
        yield
    finally:
        root.setLevel(level)
        root.filters[:], root.handlers[:] = filters, handlers


@contextlib.contextmanager
def _holding_ctrl_c() -> Iterator[None]:
    """Keep Ctrl-C for the end of a stretch that must not be interrupted."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    pressed = []
    signal.signal(signal.SIGINT, lambda *_: pressed.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if pressed:
            raise KeyboardInterrupt


def _reason(error: Exception) -> str:
    """The line of an error of OpenVINO's that tells most: a "-- " begins what it found."""
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return next((line[3:] for line in lines if line.startswith("-- ")), lines[-1])[:300]

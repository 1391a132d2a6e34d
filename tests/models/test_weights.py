import hashlib
import http.server
import importlib.util
import json
import os
import pickle
import subprocess
import sys
import threading

import keras
import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from safetensors.numpy import save_file

from kfeat import build
from kfeat.errors import InputError
from kfeat.models import weights

ARCHITECTURES = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3)}
MEAN, DEVIATION = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


class Torchvision:
    """torchvision's ResNet v1.5 in NumPy [N, C, H, W], written from its definition.

    A tensor that is not in ``state`` is made up as it is needed, so that a first pass lists
    the names and shapes of the published state dict.
    """

    def __init__(self, name, state=None):
        self.name, self.state, self.rng = name, state or {}, np.random.default_rng(0)

    def tensor(self, name, shape, low, high):
        if name not in self.state:
            self.state[name] = self.rng.uniform(low, high, shape).astype("float32")
        return self.state[name]

    def conv(self, x, name, filters, size, stride):
        scale = (6 / (x.shape[1] * size * size)) ** 0.5
        shape = (filters, x.shape[1], size, size)
        kernel = self.tensor(f"{name}.weight", shape, -scale, scale)
        pad = size // 2
        x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        windows = sliding_window_view(x, (size, size), (2, 3))[:, :, ::stride, ::stride]
        return np.einsum("nchwij,ocij->nohw", windows, kernel, optimize=True)

    def bn(self, x, name):
        kinds = {"weight": (0.5, 1), "bias": (-0.5, 0.5)}
        kinds |= {"running_mean": (-0.5, 0.5), "running_var": (0.5, 2)}
        scale, offset, mean, variance = (
            self.tensor(f"{name}.{kind}", (x.shape[1],), *bounds)[:, None, None]
            for kind, bounds in kinds.items()
        )
        self.state[f"{name}.num_batches_tracked"] = np.array(7)
        return (x - mean) / np.sqrt(variance + 1e-5) * scale + offset

    def block(self, x, name, planes, stride):
        bottleneck = self.name == "resnet50"
        sizes = ((1, 1), (3, stride), (1, 1)) if bottleneck else ((3, stride), (3, 1))
        filters = [planes, planes, 4 * planes] if bottleneck else [planes, planes]
        y = x
        for k, ((size, step), width) in enumerate(zip(sizes, filters, strict=True), 1):
            y = self.bn(self.conv(y, f"{name}.conv{k}", width, size, step), f"{name}.bn{k}")
            y = y if k == len(sizes) else np.maximum(y, 0)
        if stride > 1 or x.shape[1] != filters[-1]:
            x = self.conv(x, f"{name}.downsample.0", filters[-1], 1, stride)
            x = self.bn(x, f"{name}.downsample.1")
        return np.maximum(x + y, 0)

    def features(self, images):
        x = ((images / 255 - MEAN) / DEVIATION).transpose(0, 3, 1, 2)
        x = np.maximum(self.bn(self.conv(x, "conv1", 64, 7, 2), "bn1"), 0)
        x = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
        x = sliding_window_view(x, (3, 3), (2, 3))[:, :, ::2, ::2].max((4, 5))
        for i, depth in enumerate(ARCHITECTURES[self.name]):
            for k in range(depth):
                stride = 2 if i and not k else 1
                x = self.block(x, f"layer{i + 1}.{k}", 64 * 2**i, stride)
        return x.mean((2, 3))


def images(size, count=2):
    return np.random.default_rng(size).integers(0, 256, (count, size, size, 3)).astype("float32")


def pooled(encoder, batch):
    pool = next(x for x in encoder.layers if isinstance(x, keras.layers.GlobalAveragePooling2D))
    return np.asarray(keras.Model(encoder.input, pool.output)(batch))


def assert_agree(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6 * np.abs(theirs).max())


@pytest.fixture(scope="module")
def state():
    """A state dict of ResNet18, every batch norm with statistics of its own."""
    reference = Torchvision("resnet18")
    reference.features(images(32))
    return reference.state


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_safetensors_file_with_torchvision_names_gives_the_features_of_its_network(
    name, tmp_path
):
    reference = Torchvision(name)
    expected = reference.features(images(39))
    width = expected.shape[1]
    assert width == (2048 if name == "resnet50" else 512)
    head = {"fc.weight": np.ones((1000, width), "f4"), "fc.bias": np.ones(1000, "f4")}
    save_file(reference.state | head, tmp_path / "w.safetensors")
    assert_agree(pooled(build(name, 39, tmp_path / "w.safetensors"), images(39)), expected)
    save_file(reference.state, tmp_path / "headless.safetensors")
    assert_agree(pooled(build(name, 39, tmp_path / "headless.safetensors"), images(39)), expected)


def misfit(state, case):
    state = dict(state)
    match case:
        case "missing":
            del state["layer2.0.downsample.0.weight"], state["bn1.running_var"]
        case "surplus":
            state["layer1.2.conv1.weight"] = np.zeros((64, 64, 3, 3), "f4")
        case "shape":
            state["layer4.1.bn2.bias"] = np.zeros(256, "f4")
        case "kernel":
            state["conv1.weight"] = np.zeros((64, 3, 3, 3), "f4")
        case "NaN":
            state["layer3.0.conv1.weight"] = np.full((256, 128, 3, 3), np.nan, "f4")
        case "integers":
            state["bn1.weight"] = np.ones(64, "i4")
    return state


@pytest.mark.parametrize(
    "case, words",
    [
        ("missing", "no (bn1.running_var; no )?layer2.0.downsample.0.weight"),
        ("surplus", "surplus layer1.2.conv1.weight"),
        ("shape", r"layer4.1.bn2.bias is \[256\], not \[512\]"),
        ("kernel", r"conv1.weight is \[64, 3, 3, 3\], not \[64, 3, 7, 7\]"),
        ("NaN", r"layer3.0.conv1.weight \(float32\) is not of finite"),
        ("integers", r"bn1.weight \(int32\) is not of finite"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named_and_nothing_is_set(case, words, state, tmp_path):
    save_file(misfit(state, case), tmp_path / "w.safetensors")
    encoder = build("resnet18", 32)
    before = encoder.get_weights()
    with pytest.raises(InputError, match=f"w.safetensors does not fit: {words}") as error:
        weights.load(encoder, str(tmp_path / "w.safetensors"))
    assert "\n" not in str(error.value) and "torchvision's resnet18" in str(error.value)
    assert all(map(np.array_equal, before, encoder.get_weights()))


def test_the_state_dict_of_another_resnet_is_refused(state, tmp_path):
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="no layer1.0.conv3.weight.* and .* more; give .*resnet50"):
        build("resnet50", 32, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="only resnet18, resnet34, resnet50 take"):
        build("cae1", 32, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="weights imagenet: only resnet18"):
        build("cae1", 32, "imagenet")


def test_a_file_that_cannot_be_read_is_named(state, tmp_path):
    whole = tmp_path / "whole.safetensors"
    save_file(state, whole)
    (tmp_path / "half.safetensors").write_bytes(whole.read_bytes()[:-1000])
    (tmp_path / "text.safetensors").write_text("<html>Not found</html>")
    (tmp_path / "text.keras").write_text("<html>Not found</html>")
    (tmp_path / "notes.txt").write_text("dear diary")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.toml").write_text("")
    for file, words in {
        "half.safetensors": "half.safetensors cannot be read as safetensors",
        "text.safetensors": "text.safetensors cannot be read as safetensors",
        "text.keras": "text.keras is damaged, or no .keras file",
        "notes.txt": "notes.txt: unknown kind of file",
        "run": "run: the run is not complete: finish it with --resume",
        ".": "the folder is no run",
        "nothing.pth": "nothing.pth: no such file or folder",
    }.items():
        with pytest.raises(InputError, match=words) as error:
            build("resnet18", 32, f"{tmp_path}/{file}")
        assert "\n" not in str(error.value)


def test_a_pth_file_needs_torch(state, tmp_path, monkeypatch):
    (tmp_path / "w.pth").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "torch", None)  # importing it raises ImportError
    with pytest.raises(InputError, match=r"convert .*w.pth to .safetensors, or pip install"):
        build("resnet18", 32, tmp_path / "w.pth")


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("harmed",)


def test_a_pth_file_is_read_without_running_its_code(state, tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    torch.save({name: torch.tensor(value) for name, value in state.items()}, "w.pth")
    expected = Torchvision("resnet18", state).features(images(32))
    assert_agree(pooled(build("resnet18", 32, "w.pth"), images(32)), expected)
    for n, content in enumerate([pickle.dumps(Harmful()), b"<html>", b""]):
        (tmp_path / f"{n}.pth").write_bytes(content)
        with pytest.raises(InputError, match=f"{n}.pth cannot be read as tensors alone"):
            build("resnet18", 32, f"{n}.pth")
    torch.save({"conv1.weight": torch.ones(2, 2).to_sparse()}, "sparse.pth")
    with pytest.raises(InputError, match="sparse.pth holds other than plain tensors"):
        build("resnet18", 32, "sparse.pth")
    torch.save({"state_dict": {}}, "nested.pth")
    with pytest.raises(InputError, match="nested.pth is no state dict"):
        build("resnet18", 32, "nested.pth")
    assert not (tmp_path / "harmed").exists()


@pytest.fixture(scope="session")
def torch_resnet(shared):
    """The PyTorch ResNets of the development data: torchvision's names, and ``features``."""
    pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch==2.13.0")
    file = shared / "bench" / "torch_resnet.py"
    if not file.is_file():
        pytest.skip(f"no {file}")
    spec = importlib.util.spec_from_file_location("torch_resnet", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def assert_parity(name, network, features, tmp_path):
    """``features`` of ``network`` equal ours from its state dict, at two sizes."""
    import torch
    from safetensors.torch import save_file

    network.train()
    optimizer = torch.optim.SGD(network.parameters(), 1e-3, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        batch = torch.randn(8, 3, 32, 32, generator=generator)
        labels = torch.randint(0, 1000, (8,), generator=generator)
        torch.nn.functional.cross_entropy(network(batch), labels).backward()
        optimizer.step()
    assert not torch.allclose(network.bn1.running_mean, torch.zeros(64))
    network.eval()
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    for size in (96, 224):
        normal = ((images(size) / 255 - MEAN) / DEVIATION).transpose(0, 3, 1, 2)
        with torch.inference_mode():
            expected = features(torch.tensor(normal)).numpy()
        ours = pooled(build(name, size, tmp_path / "w.safetensors"), images(size))
        assert_agree(ours, expected)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_features_equal_pytorch_after_training_steps(name, torch_resnet, tmp_path):
    import torch

    torch.manual_seed(0)
    network = torch_resnet.resnet(name)
    assert_parity(name, network, network.features, tmp_path)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_features_equal_timm(name, tmp_path):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    timm = pytest.importorskip("timm", reason="timm, or torchvision that it needs, is missing")
    network = timm.create_model(name, pretrained=False)
    assert_parity(name, network, lambda x: network.forward_features(x).mean((2, 3)), tmp_path)


def test_an_encoder_of_ours_is_taken_whole_at_any_image_size(tmp_path, photographs):
    encoder = build("resnet18", 64)
    encoder.save(tmp_path / "mine.keras")
    other = build("resnet18", 96, tmp_path / "mine.keras")
    assert other.input.shape == (None, 96, 96, 3)
    assert all(map(np.array_equal, encoder.get_weights(), other.get_weights()))
    batch = photographs[0][:2, :64, :64]
    again = build("resnet18", 64, tmp_path / "mine.keras")
    np.testing.assert_array_equal(again(batch), encoder(batch))


def test_an_encoder_of_another_model_is_refused(tmp_path):
    build("resnet18", 32).save(tmp_path / "mine.keras")
    with pytest.raises(InputError, match="mine.keras is a resnet18: give weights of a resnet34"):
        build("resnet34", 32, tmp_path / "mine.keras")


def test_a_layer_that_depends_on_the_image_size_is_named():
    def encoder(size):
        images = keras.Input((size, size, 3))
        features = keras.layers.Dense(4, name="features")(keras.layers.Flatten()(images))
        return keras.Model(images, features, name="dense")

    with pytest.raises(InputError) as error:
        weights.set_own(encoder(4), encoder(2), "mine.keras")
    assert str(error.value) == (
        "mine.keras does not fit: layer features has weights of [[12, 4], [4]], not [[48, 4], "
        "[4]]; give a dense for images of 4 pixels"
    )
    broken = encoder(4)
    broken.set_weights([np.full(weight.shape, np.nan) for weight in broken.get_weights()])
    with pytest.raises(InputError, match="layer features has weights that are no finite numbers"):
        weights.set_own(encoder(4), broken, "mine.keras")


@pytest.fixture
def hub(state, tmp_path):
    """A hub on this machine with one file; the environment of a process that uses it."""
    save_file(state, tmp_path / "model.safetensors")
    content = (tmp_path / "model.safetensors").read_bytes()
    revision = weights.IMAGENET["resnet18"][0]
    path = f"/timm/resnet18.tv_in1k/resolve/{revision}/model.safetensors"

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            if self.path != path:
                return self.send_error(404)
            self.send_response(200)
            self.send_header("X-Repo-Commit", revision)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()

        def do_GET(self):
            self.do_HEAD()
            if self.path == path:
                self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings = {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HUB_CACHE": str(tmp_path / "hub"),
        "HF_HUB_OFFLINE": "0",
        "NO_PROXY": "127.0.0.1",
    }
    yield os.environ | settings, hashlib.sha256(content).hexdigest()
    server.shutdown()


PINNED = """if True:
    import sys
    from kfeat.errors import InputError
    from kfeat.models import weights
    if len(sys.argv) > 1:  # the pin of the file that stands in for the published one
        weights.IMAGENET["resnet18"] = weights.IMAGENET["resnet18"][0], sys.argv[1]
"""
FETCH = (
    PINNED
    + """
    try:
        print(weights.fetch("resnet18"))
    except InputError as error:
        sys.exit(f"{error}")
"""
)
LOAD = (
    PINNED
    + """
    import json
    from kfeat import build
    encoder = build("resnet18", 32)
    origin = weights.load(encoder, "imagenet")
    print(json.dumps([origin, encoder.get_layer("stem_bn").gamma.numpy().tolist()]))
"""
)


def fetch(environment, *pin, code=FETCH):
    command = [sys.executable, "-c", code, *pin]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_imagenet_weights_are_fetched_once_checked_and_mended(hub, state, tmp_path):
    online, pin = hub
    offline = online | {"HF_HUB_OFFLINE": "1"}
    by_hand = "by hand and give --weights FILE.safetensors"
    nothing = fetch(offline, pin)
    assert "are not in the cache and cannot be fetched" in nothing.stderr
    assert by_hand in nothing.stderr and nothing.stderr.count("\n") == 1

    fetched = fetch(online, pin)
    file = fetched.stdout.strip()
    assert fetched.returncode == 0, fetched.stderr
    assert fetch(offline, pin).stdout.strip() == file
    origin, scale = json.loads(fetch(offline, pin, code=LOAD).stdout)
    assert origin == {
        **{"source": "imagenet", "file": file, "sha256": pin},
        **{"repository": "timm/resnet18.tv_in1k", "revision": weights.IMAGENET["resnet18"][0]},
    }
    assert scale == state["bn1.weight"].tolist()

    unknown = fetch(online)  # against the pin of the published file
    assert f"has the SHA-256 {pin}, not {weights.IMAGENET['resnet18'][1]}" in unknown.stderr
    blob = os.path.realpath(file)
    with open(blob, "r+b") as content:
        content.truncate(1000)
    damaged = fetch(online, pin)
    assert damaged.returncode == 1 and damaged.stderr.startswith(f"{blob} has the SHA-256 ")
    assert "delete it and try again" in damaged.stderr and by_hand in damaged.stderr
    os.remove(blob)
    assert fetch(online, pin).stdout.strip() == file
    assert fetch(offline, pin).returncode == 0


def test_bfloat16_tensors_are_taken_as_they_are(state, tmp_path):
    import ml_dtypes

    halved = {
        name: tensor.astype(ml_dtypes.bfloat16) if tensor.dtype == np.float32 else tensor
        for name, tensor in state.items()
    }
    save_file(halved, tmp_path / "resnet18.safetensors")
    encoder = build("resnet18", 64, tmp_path / "resnet18.safetensors")
    kernel = encoder.get_layer("stem_conv").get_weights()[0]
    expected = halved["conv1.weight"].astype(np.float32).transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(kernel, expected)


def test_a_run_may_be_called_like_a_file(tmp_path):
    (tmp_path / "run.pt").mkdir()
    assert not weights.named_as_torchvision(str(tmp_path / "run.pt"))
    assert weights.named_as_torchvision("somewhere/else.pt")

"""Exported files compute what the trained network computes, and need nothing of this package."""

import ast
import json
import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from mergenet.config import Config
from mergenet.config.loading import dump_yaml
from mergenet.config.spec import CLASSES, EMBEDDING, IMAGE, IMAGE_TEXT, TEXT, Spec
from mergenet.errors import CheckpointError, ConfigError
from mergenet.export import codegen
from mergenet.export.formats import FORMATS, ExportError, Format, Network, check, examples, export_run
from mergenet.export.target import load_target, plain_state
from mergenet.layers.matrices import find_layer, list_layers
from mergenet.models import MODELS, Architecture, build_model
from mergenet.records.checkpoint import load_tensors, save_tensors
from mergenet.records.run_record import BEST_FILE, CONFIG_FILE
from mergenet.transfer.encodings import factorize

SPEC = Spec(IMAGE, CLASSES, 10, image_size=16)
METADATA = {
    "spec": SPEC.to_json(),
    "mean": "[0.5, 0.4, 0.3]",
    "std": "[0.2, 0.2, 0.2]",
    "class_names": json.dumps([f"class {i}" for i in range(10)]),
}
CONFIG = Config.model_validate(
    {"method": "none", "target": {"model": {"name": "mobilenetv2_small"}, "data": {"image_size": 16}}}
)


def trained(factorized: bool) -> nn.Module:
    """A network whose weights and BatchNorm statistics are not the initial ones."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = build_model(CONFIG.target.model, SPEC)
    if factorized:
        layers = list_layers(network)
        for name in (layers[0].name, layers[1].name, layers[-1].name):  # 3x3 and 1x1 convolutions, linear
            factorize(find_layer(network, name), 2)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(3):
        network(torch.randn(8, 3, 16, 16)).square().mean().backward()
        optimizer.step()
    return network.eval()


def run_folder(
    folder: Path, network: nn.Module, metadata: dict[str, str] = METADATA, model: str = "mobilenetv2_small"
) -> Path:
    folder.mkdir(parents=True)
    (folder / CONFIG_FILE).write_text(dump_yaml(CONFIG).replace("mobilenetv2_small", model))
    save_tensors(folder / BEST_FILE, network.state_dict(), metadata)
    return folder


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return trained(factorized=True)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def expected(network: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return network(images)


@pytest.fixture
def folder(tmp_path: Path, network: nn.Module) -> Path:
    return run_folder(tmp_path / "run", network)


def assert_close(found: Tensor, expected: Tensor) -> None:
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_safetensors_fits_the_untouched_network(folder: Path, images: Tensor, expected: Tensor) -> None:
    path, code = export_run(folder, "safetensors")
    assert (path, code) == (folder / "target.safetensors", folder / "target.py")
    state, metadata = load_tensors(path)
    untouched = build_model(CONFIG.target.model, SPEC)
    assert sorted(state) == sorted(untouched.state_dict())
    assert any(name.endswith("running_var") for name in state)
    untouched.load_state_dict(state, strict=True)
    with torch.no_grad():
        assert_close(untouched.eval()(images), expected)
    assert metadata == METADATA | {
        "architecture": "mobilenetv2_small",
        "stem": "cifar",
        "num_outputs": "10",
        "input_size": "[3, 16, 16]",
    }


@pytest.mark.slow
def test_torch_export_loads_without_this_package(
    folder: Path, images: Tensor, expected: Tensor, capfd: pytest.CaptureFixture[str]
) -> None:
    [path] = export_run(folder, "torch-export")
    assert capfd.readouterr() == ("", "")
    save_tensors(folder / "case.safetensors", {"images": images, "expected": expected}, {})
    script = f"""
import sys
sys.modules["mergenet"] = sys.modules["torchvision"] = None  # importing either fails
import torch, safetensors.torch
case = safetensors.torch.load_file({str(folder / "case.safetensors")!r})
extra = {{"metadata.json": ""}}
module = torch.export.load({str(path)!r}, extra_files=extra).module()
for count in (1, 5):
    found = module(case["images"][:count])
    error = (found - case["expected"][:count]).abs().max() / case["expected"].abs().max()
    assert error <= 1e-5, error
print(extra["metadata.json"])
"""
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["num_outputs"] == "10"


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_onnx_that_is_not_installed(
    package: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        ConfigError, match=rf'^the package {package} must be .* pip install "mergenet\[onnx\]" brings it$'
    ):
        export_run(folder, "onnx", tmp_path / "net.onnx")
    assert not list(tmp_path.glob("net.onnx*"))


@pytest.mark.slow
def test_onnx_runs_in_onnxruntime(
    folder: Path, images: Tensor, expected: Tensor, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    [path] = export_run(folder, "onnx", tmp_path / "new" / "net.onnx")
    assert capfd.readouterr() == ("", ""), "nothing on the terminal"
    assert [file.name for file in path.parent.iterdir()] == ["net.onnx"], "a single file"
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    [given], [result] = session.get_inputs(), session.get_outputs()
    assert (given.name, given.shape[1:], result.name) == ("images", [3, 16, 16], "outputs")
    for count in (1, 5):
        [found] = session.run(["outputs"], {"images": images[:count].numpy()})
        assert_close(torch.from_numpy(found), expected[:count])
    model = onnx.load(path)
    assert {entry.key: entry.value for entry in model.metadata_props}["mean"] == METADATA["mean"]
    assert str(Path(__file__).parents[3]).encode() not in path.read_bytes(), "paths of this machine"


def test_factors_become_the_layers_own_weights(network: nn.Module) -> None:
    untouched = build_model(CONFIG.target.model, SPEC)
    plain = plain_state(network.state_dict(), untouched.state_dict())
    assert {name: x.shape for name, x in plain.items()} == {name: x.shape for name, x in untouched.state_dict().items()}
    for name, layer in network.named_modules():
        if f"{name}.weight" in plain:
            assert plain[f"{name}.weight"].equal(layer.weight)


def test_a_plain_state_passes_unchanged() -> None:
    state = trained(factorized=False).state_dict()
    plain = plain_state(state, state)
    assert all(plain[name] is tensor for name, tensor in state.items())


def test_the_callers_random_stream_is_left_alone(folder: Path) -> None:
    before = torch.get_rng_state()
    export_run(folder, "safetensors")
    assert torch.get_rng_state().equal(before)


def test_starting_weights_need_not_be_there_any_more(folder: Path) -> None:
    values = CONFIG.model_dump()
    values["target"]["model"]["weights"] = str(folder / "gone.safetensors")
    (folder / CONFIG_FILE).write_text(dump_yaml(Config.model_validate(values)))
    assert not load_target(folder).network.training


def test_out_may_be_a_folder_and_is_overwritten(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "target.safetensors"
    out.write_bytes(b"old")
    assert export_run(folder, "safetensors", tmp_path) == [out, tmp_path / "target.py"]
    assert len(load_tensors(out)[0]) > 10
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "target.py", "target.safetensors"]


def test_a_file_that_deviates_is_not_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(target: object, path: Path) -> object:
        module = FORMATS["safetensors"].load(target, path)
        return lambda images: module(images) * (1 + 3e-5)

    monkeypatch.setitem(FORMATS, "rounded", Format(".bin", FORMATS["safetensors"].make, load))
    (folder / "target.bin").write_bytes(b"old")
    with pytest.raises(ExportError, match=r"target\.bin was not written: its outputs must be within 1e-05 of"):
        export_run(folder, "rounded")
    assert (folder / "target.bin").read_bytes() == b"old"
    assert {path.name for path in folder.iterdir()} == {CONFIG_FILE, BEST_FILE, "target.bin"}


def test_wrong_shapes_and_nan_deviate(folder: Path) -> None:
    target = load_target(folder)
    for wrong in (lambda images: target.network(images)[:, :1], lambda images: target.network(images) * torch.nan):
        with pytest.raises(ExportError, match=r"but are off by (inf|nan)"):
            check(target, wrong, folder / "file", examples(target.spec))


def test_an_unknown_format_lists_the_known(folder: Path) -> None:
    with pytest.raises(ConfigError, match="format must be one of onnx, safetensors, torch-export, got 'onxx'; did"):
        export_run(folder, "onxx")


def test_a_place_that_cannot_be_written_is_named(folder: Path) -> None:
    with pytest.raises(ExportError, match=r"best\.safetensors/a/b\.onnx could not be written: Not a directory"):
        export_run(folder, "safetensors", folder / BEST_FILE / "a" / "b.onnx")


def test_a_folder_without_a_run_is_refused(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"must be a run folder, but has no config\.yaml"):
        export_run(tmp_path, "safetensors")
    (folder / BEST_FILE).unlink()
    with pytest.raises(CheckpointError, match=r"must hold best\.safetensors, which is written after"):
        export_run(folder, "safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("classifier.1.bias"), r"fit the target network of .*: classifier\.1\.bias is missing$"),
        (lambda s: s.update(extra=torch.ones(1)), "extra is not in the network$"),
        (lambda s: s.update({"classifier.1.bias": torch.ones(3)}), r"classifier\.1\.bias is \(3,\), not \(10,\)$"),
        (lambda s: [s.pop(k) for k in list(s)[:9]], "is missing, .* is missing, .* is missing and 6 more$"),
    ],
)
def test_weights_of_another_network_are_refused(tmp_path: Path, change: object, message: str) -> None:
    network = trained(factorized=False)
    state = dict(network.state_dict())
    change(state)
    folder = run_folder(tmp_path / "run", network)
    save_tensors(folder / BEST_FILE, state, METADATA)
    with pytest.raises(CheckpointError, match=message):
        export_run(folder, "safetensors")


def test_factors_of_another_shape_are_refused(network: nn.Module) -> None:
    state = dict(network.state_dict())
    factors = "classifier.1.parametrizations.weight.original"
    for change, message in (
        ({f"{factors}0": torch.ones(4, 2)}, r"classifier\.1\.weight must be \(10, 128\), got factors \(4, 2\) and"),
        ({f"{factors}0": torch.ones(10, 3)}, r"got factors \(10, 3\) and \(2, 128\)"),
    ):
        with pytest.raises(CheckpointError, match=message):
            plain_state(state | change, build_model(CONFIG.target.model, SPEC).state_dict())
    del state[f"{factors}1"]
    with pytest.raises(CheckpointError, match=r"classifier\.1 must have two factors"):
        plain_state(state, build_model(CONFIG.target.model, SPEC).state_dict())


def test_missing_metadata_is_named(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run", trained(factorized=False), {"mean": "[0]"})
    with pytest.raises(CheckpointError, match=r"must hold the network's spec in its metadata, got \{.mean"):
        export_run(folder, "safetensors")


def test_a_truncated_network_is_refused(folder: Path) -> None:
    (folder / BEST_FILE).write_bytes((folder / BEST_FILE).read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"best\.safetensors must be a whole safetensors file"):
        export_run(folder, "onnx")


# ---------------------------------------------------------------- Python beside the weights

ALONE = """
import sys
for name in ("mergenet", "torchvision", "safetensors", "numpy"):
    sys.modules[name] = None  # importing it fails
import json, warnings
warnings.filterwarnings("ignore", message="Failed to initialize NumPy")
import torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
import target
case = target.read(sys.argv[2])
network = target.load()
assert not network.training
with torch.no_grad():
    found = network(case["images"])
error = (found - case["expected"]).abs().max() / case["expected"].abs().max()
assert error <= 1e-5, error
names = list(network.state_dict())
network.train()
network(case["images"]).square().mean().backward()
assert all(p.grad is not None for p in network.parameters())
before = target.read(target.WEIGHTS)
changed = [n for n, b in network.named_buffers() if n.endswith("running_var") and not b.equal(before[n])]
print(json.dumps([names, sum(p.numel() for p in network.parameters()), len(changed), target.METADATA["mean"]]))
"""


@pytest.mark.parametrize("name", ["resnet_small", "mobilenetv2_small", "resnet18", "mobilenetv2", "factorized"])
def test_code_beside_the_weights_needs_torch_alone(tmp_path: Path, images: Tensor, name: str) -> None:
    model = "mobilenetv2_small" if name == "factorized" else name
    torch.manual_seed(0)
    plain = build_model(CONFIG.target.model.model_copy(update={"name": model}), SPEC)
    network = trained(factorized=True) if name == "factorized" else plain
    network.train()(images)  # BatchNorm's statistics are not the initial ones
    folder = run_folder(tmp_path / "run", network.eval(), model=model)
    with torch.no_grad():
        save_tensors(tmp_path / "case.safetensors", {"images": images, "expected": network(images)}, {})
    export_run(folder, "safetensors")
    command = [sys.executable, "-I", "-c", ALONE, str(folder), str(tmp_path / "case.safetensors")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names, parameters, changed, mean = json.loads(done.stdout)
    assert names == list(plain.state_dict())
    assert parameters == sum(parameter.numel() for parameter in plain.parameters())
    assert changed == sum(isinstance(module, nn.BatchNorm2d) for module in plain.modules()), "training mode"
    assert mean == [0.5, 0.4, 0.3]


class Words(nn.Module):
    """Mean of word vectors with positions: parameters of its own, an operator, an index, a method of tensors."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.randn(spec.max_length, 6))
        self.words = nn.Embedding(spec.vocab_size, 6)
        self.register_buffer("scale", torch.tensor([2.0]))
        self.out = nn.ModuleList([nn.LayerNorm(6), nn.Linear(6, spec.num_outputs)])

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        known = mask[:, :, None].to(torch.float32)
        x = (self.words(tokens) + self.positions) * known * self.scale
        x = x.masked_fill(mask[..., None] == 0, float("-inf")).amax(dim=1)
        return self.out[1](self.out[0](x))


class Both(nn.Module):
    """Embeddings of images and texts."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.text = Words(spec)
        self.image = nn.Sequential(nn.Flatten(), nn.Linear(3 * spec.image_size**2, spec.num_outputs))

    def forward(self, images: Tensor, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        image, text = self.image(images), self.text(tokens, mask)
        return nn.functional.normalize(image, dim=1), nn.functional.normalize(text, dim=1)


class Branching(Words):
    """Looks into its input, which torch.export forbids too; torch.fx cannot follow it."""

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return super().forward(tokens, mask if mask.sum() > 0 else mask + 1)


KINDS: dict[str, tuple[type[nn.Module], Spec]] = {
    "words": (Words, Spec(TEXT, CLASSES, 3, vocab_size=11, max_length=5)),
    "both": (Both, Spec(IMAGE_TEXT, EMBEDDING, 4, image_size=8, vocab_size=11, max_length=5)),
    "branching": (Branching, Spec(TEXT, CLASSES, 3, vocab_size=11, max_length=5)),
}


@pytest.fixture
def kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, (module, spec) in KINDS.items():
        build = Architecture(lambda _, given, module=module: module(given), spec.inputs, (spec.outputs,))
        monkeypatch.setitem(MODELS, name, build)


def exported(tmp_path: Path, kind: str, format: str) -> tuple[nn.Module, Spec, list[Path]]:
    module, spec = KINDS[kind]
    torch.manual_seed(0)
    network = module(spec).eval()
    folder = run_folder(tmp_path / "run", network, {"spec": spec.to_json()}, kind)
    return network, spec, export_run(folder, format)


def computed(network: nn.Module, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    with torch.no_grad():
        outputs = network(*inputs)
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)


@pytest.mark.usefixtures("kinds")
@pytest.mark.parametrize("kind", ["words", "both"])
@pytest.mark.parametrize("format", list(FORMATS))
def test_texts_and_pairs_of_outputs_with_any_batch_size(tmp_path: Path, kind: str, format: str) -> None:
    network, spec, [path, *_] = exported(tmp_path, kind, format)
    for count in (1, 2, 7):
        inputs = spec.example(count)
        if format == "onnx":
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            arrays = dict(zip(spec.argument_names, (x.numpy() for x in inputs), strict=True))
            found = [torch.from_numpy(x) for x in session.run(None, arrays)]
            names = ["image_embeddings", "text_embeddings"] if kind == "both" else ["outputs"]
            assert [output.name for output in session.get_outputs()] == names
        elif format == "torch-export":
            found = computed(torch.export.load(path).module(), inputs)
        else:
            code = path.with_suffix(".py")
            found = computed(codegen.run(code.read_text(), code)["load"](), inputs)
        for one, expected in zip(found, computed(network, inputs), strict=True):
            assert_close(one, expected)


class Named(nn.Module):
    """A layer that has the name of a module that the code may import; with `calls`, the module is called as well."""

    def __init__(self, spec: Spec, name: str, calls: bool) -> None:
        super().__init__()
        self.name, self.calls = name, calls
        setattr(self, name, nn.Sequential(nn.Flatten(), nn.Linear(3 * spec.image_size**2, spec.num_outputs)))

    def forward(self, images: Tensor) -> Tensor:
        x = getattr(self, self.name)(images)
        if not self.calls:
            return x
        return -x if self.name == "operator" else nn.functional.relu(x)


@pytest.mark.parametrize("calls", [True, False])
@pytest.mark.parametrize("name", ["operator", "functional"])
def test_code_imports_what_it_uses_and_no_more(name: str, calls: bool) -> None:
    spec = Spec(IMAGE, CLASSES, 2, image_size=4)
    network = Named(spec, name, calls).eval()
    text = codegen.generate_code(network, spec, {}, "weights.safetensors")
    tree = ast.parse(text)
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    imported = {alias.name for node in imports for alias in node.names}
    assert imported <= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert (name in imported) == calls
    assert "noqa" not in text
    rebuilt = codegen.build(text, network.state_dict(), spec)
    assert computed(rebuilt, spec.example(2))[0].equal(computed(network, spec.example(2))[0])


@pytest.mark.usefixtures("kinds")
def test_what_cannot_be_written_as_code_is_said(tmp_path: Path) -> None:
    with pytest.warns(
        UserWarning, match=r"^target\.safetensors has the weights alone, .*: torch\.fx cannot follow its"
    ):
        network, _, paths = exported(tmp_path, "branching", "safetensors")
    assert [path.name for path in paths] == ["target.safetensors"]
    assert not (tmp_path / "run" / "target.py").exists()
    state, _ = load_tensors(paths[0])
    assert all(state[name].equal(value) for name, value in network.state_dict().items())


def test_layers_that_do_not_say_how_they_are_made() -> None:
    spec = KINDS["words"][1]
    attention = nn.Sequential(nn.Flatten(), nn.MultiheadAttention(6, 2))
    attention.forward = lambda tokens, mask: tokens + mask
    with pytest.raises(codegen.Untraceable, match=r"its layer 1 \(MultiheadAttention\) does not say how it is made"):
        codegen.generate_code(attention, spec, {}, "w")


def test_names_of_classes_cannot_become_code(tmp_path: Path) -> None:
    hostile = ['"""', "'", "\n", "{weights}", "\\", "') or exit(3) #"]
    folder = run_folder(tmp_path / "run", trained(factorized=False), METADATA | {"class_names": json.dumps(hostile)})
    _, code = export_run(folder, "safetensors", tmp_path / 'it\'s {a} """ name.safetensors')
    defined = codegen.run(code.read_text(), code)
    assert defined["METADATA"]["class_names"] == hostile
    assert not defined["load"]().training


@pytest.mark.parametrize("name", ["config.yaml", BEST_FILE, "adapter.safetensors", "result.json", "epochs.jsonl"])
@pytest.mark.parametrize("format", FORMATS)
def test_the_record_of_a_run_is_not_replaced(folder: Path, name: str, format: str) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ExportError, match=f"{name} is part of the run's own record; choose another name with --out"):
        export_run(folder, format, folder / name)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_names_of_records_are_free_where_no_run_is(folder: Path, tmp_path: Path) -> None:
    assert export_run(folder, "safetensors", tmp_path / "elsewhere" / BEST_FILE)[0].is_file()


def test_code_of_somebody_else_is_not_replaced(folder: Path) -> None:
    (folder / "target.py").write_text("print('mine')")
    with pytest.raises(
        ExportError, match=r"target\.py is there, and is not of an export; choose another name with --out"
    ):
        export_run(folder, "safetensors")
    with pytest.raises(ExportError, match=r"net\.py must be the name of the code beside the weights"):
        export_run(folder, "safetensors", folder / "net.py")
    assert sorted(path.name for path in folder.iterdir()) == [BEST_FILE, CONFIG_FILE, "target.py"]
    assert (folder / "target.py").read_text() == "print('mine')"


class Branches(nn.Module):
    """A branch that depends on the values, which torch.export cannot follow."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3 * 16 * 16, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = self.fc(images.flatten(1))
        return x / 2 if x.mean() > 100 else x


class Counts(Branches):
    """Takes the number of images as a number."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([self.fc(images[i : i + 1].flatten(1)) for i in range(int(images.shape[0]))])


@pytest.mark.parametrize("format", ["torch-export", "onnx"])
@pytest.mark.parametrize(
    ("made", "says"),
    [(Branches, r"GuardOnDataDependentSymNode: Could not guard .*test_formats\.py:\d+"), (Counts, "UserError: Constr")],
)
def test_what_torch_cannot_follow_is_one_line_and_leaves_nothing(
    made: type[nn.Module],
    says: str,
    format: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(MODELS, "own", Architecture(lambda *_: made()))
    folder = run_folder(tmp_path / "run", made(), model="own")
    before, disabled = sorted(folder.iterdir()), logging.root.manager.disable
    suffix = FORMATS[format].suffix
    message = rf"target\{suffix} was not written: .*{says}.*; --format safetensors gives the weights$"
    with pytest.raises(ExportError, match=message) as e:
        export_run(folder, format)
    assert "\n" not in str(e.value)
    assert capfd.readouterr() == ("", "")
    assert sorted(folder.iterdir()) == before
    assert logging.root.manager.disable == disabled
    with pytest.warns(UserWarning, match=r"no Python file beside it: .*; --format torch-export may give a file"):
        export_run(folder, "safetensors")


def test_a_file_that_cannot_be_loaded_again_is_one_line_and_is_gone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object) -> Network:
        raise RuntimeError("an operator is unknown\nand more lines")

    before = sorted(folder.iterdir())
    monkeypatch.setitem(FORMATS, "safetensors", replace(FORMATS["safetensors"], load=load))
    with pytest.raises(ExportError, match=r"was not written: .*RuntimeError: an operator is unknown \(") as e:
        export_run(folder, "safetensors")
    assert "\n" not in str(e.value)
    assert sorted(folder.iterdir()) == before


class Draws(Branches):
    """Draws in evaluation mode, too."""

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.dropout(self.fc(images.flatten(1)), 0.3)


@pytest.mark.parametrize("format", ["safetensors", "torch-export"])
def test_a_network_that_draws_in_evaluation_mode(format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "own", Architecture(lambda *_: Draws()))
    folder, state = run_folder(tmp_path / "run", Draws(), model="own"), torch.get_rng_state()
    assert export_run(folder, format)[0].is_file()
    assert torch.equal(torch.get_rng_state(), state)

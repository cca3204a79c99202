"""A few samples of each data set that cannot be bundled, written in its real files; checkpoints as they are published.

Each `write_*` leaves below `root` what the data set's archives unpack to.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file

from mergenet.data.image_text.captions import KARPATHY
from mergenet.data.images.cifar import CIFAR10, CIFAR100, Layout
from mergenet.models._torchvision import Later

CIFAR = {"cifar10": (CIFAR10, 40), "cifar100": (CIFAR100, 200)}  # layout, images a file
QUESTIONS = "v2_OpenEnded_mscoco_{}_questions.json"
ANNOTATIONS = "v2_mscoco_{}_annotations.json"
BLIP = {"width": 48, "inner": 192, "heads": 4}  # of `write_blip`, as mergenet.models.vision_language.Blip names them
CONTEXT = "Norway's capital is Oslo. Oslo lies at the Oslofjord."
SOME_WORDS = f"where is {CONTEXT} splendid awful film how many it blue picture seen here there far ?".lower()


# ---------------------------------------------------------------- data sets


def cifar_file(name: str, file: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels, uint8 (N, 3072), and labels (N,) of a file of `cifar10` or `cifar100`."""
    layout, n = CIFAR[name]
    generator = np.random.default_rng(file)
    return generator.integers(0, 256, (n, 3072), dtype=np.uint8), (np.arange(n) % layout.num_classes)


def write_cifar_binary(root: Path, name: str, most: int | None = None) -> Path:
    """most: images a file."""
    layout: Layout = CIFAR[name][0]
    folder = root / layout.binary
    folder.mkdir(parents=True)
    for i, file in enumerate((*layout.train, *layout.test)):
        images, labels = (part[:most] for part in cifar_file(name, i))
        columns = [labels[:, None].astype(np.uint8), images]
        if layout.label_bytes == 2:
            columns.insert(0, np.full((len(labels), 1), 7, dtype=np.uint8))  # coarse labels
        (folder / f"{file}.bin").write_bytes(np.concatenate(columns, axis=1).tobytes())
    (folder / layout.names[0]).write_text("".join(f"class{i}\n" for i in range(layout.num_classes)) + "\n")
    return folder


def write_imdb(root: Path) -> None:
    for split, count in (("train", 12), ("test", 4)):
        for name, word in (("pos", "splendid"), ("neg", "awful")):
            folder = root / "aclImdb" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                (folder / f"{i}_7.txt").write_text(f"{word}<br /><br />film, né {split} {i}", encoding="utf-8")
    (root / "aclImdb" / "train" / "unsup").mkdir()
    (root / "aclImdb" / "train" / "unsup" / "0_0.txt").write_text("no label")


def squad_record(name: str, answers: list[tuple[str, int]], **more: Any) -> dict[str, Any]:
    found = [{"text": text, "answer_start": start} for text, start in answers]
    return {"id": name, "question": f"Where is {name}?", "answers": found, **more}


def squad(titles: int = 4, prefix: str = "") -> dict[str, Any]:
    """Two questions an article, one of them without an answer."""
    articles = []
    for t in range(titles):
        qas = [
            squad_record(f"{prefix}{t}a", [("Oslo", 20), ("capital is Oslo", 9)], is_impossible=False),
            squad_record(f"{prefix}{t}b", [], is_impossible=True, plausible_answers=[{"text": "x", "answer_start": 0}]),
        ]
        articles.append({"title": f"{prefix}T{t}", "paragraphs": [{"context": CONTEXT, "qas": qas}]})
    return {"version": "v2.0", "data": articles}


def write_squad(root: Path, train: object, test: object, version: str = "v2.0") -> Path:
    root.mkdir(exist_ok=True)
    for part, value in (("train", train), ("dev", test)):
        (root / f"{part}-{version}.json").write_text(json.dumps(value))
    return root


def write_vqa2(root: Path, num_images: int = 6, humans: Any = None) -> None:
    """Two questions an image; answers are the image's number and yes."""
    for base, folder in enumerate(("train2014", "val2014")):
        (root / folder).mkdir(parents=True)
        questions, annotations = [], []
        for number in range(num_images):
            image = 1000 * base + number
            pixels = Image.new("RGB", (20, 12), (40 * number, 0, 255))
            pixels.save(root / folder / f"COCO_{folder}_{image:012d}.jpg")
            for kind, (text, answer) in enumerate((("How many?", str(number % 2)), ("Is it blue?", "yes"))):
                name = 10 * image + kind
                questions.append({"image_id": image, "question": text, "question_id": name})
                given_answers = humans or [answer] * 7 + ["Maybe."] * 3
                annotations.append(
                    {
                        "question_id": name,
                        "image_id": image,
                        "multiple_choice_answer": answer,
                        "answers": [
                            {"answer": a, "answer_confidence": "yes", "answer_id": n + 1}
                            for n, a in enumerate(given_answers)
                        ],
                    }
                )
        (root / QUESTIONS.format(folder)).write_text(json.dumps({"questions": questions}))
        (root / ANNOTATIONS.format(folder)).write_text(json.dumps({"annotations": annotations}))


def write_coco(root: Path, num_images: int = 8) -> None:
    """Image n has 2 captions, image 0 three; a quarter of the images is in each of Karpathy's splits."""
    images = []
    for n in range(num_images):
        split = ("train", "restval", "val", "test")[n % 4]
        folder = "train2014" if split == "train" else "val2014"
        (root / folder).mkdir(parents=True, exist_ok=True)
        name = f"COCO_{folder}_{n:012d}.jpg"
        Image.new("RGB", (10, 14), (20 * n, 255, 0)).save(root / folder / name)
        sentences = [
            {"raw": f"Picture {n} seen {way}.", "sentid": n} for way in ("here", "there", "far")[: 3 if n == 0 else 2]
        ]
        images.append({"filepath": folder, "filename": name, "split": split, "sentences": sentences, "cocoid": n})
    (root / KARPATHY).write_text(json.dumps({"images": images, "dataset": "coco"}))


# ---------------------------------------------------------------- malformed files

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=4), children, max_size=3),
    max_leaves=6,
)


def spoil(file: Path, data: st.DataObject) -> None:
    """Puts any value in the place of any entry of a JSON file."""
    value = json.loads(file.read_text())
    node: Any = value
    while True:
        key = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
        if not isinstance(node[key], dict | list) or data.draw(st.integers(0, 3)) == 0:
            break
        node = node[key]
    node[key] = data.draw(JSON)
    file.write_text(json.dumps(value))


# ---------------------------------------------------------------- checkpoints


def transformers() -> Any:
    """The library, which imports torchvision, which `mergenet.models` helps where it must."""
    import transformers

    return transformers


def write_tokenizer(folder: Path) -> int:
    """BERT's tokenizer as save_pretrained writes it, for the texts above; gives the size of its vocabulary."""
    words = "".join(c if c.isalnum() else f" {c} " for c in SOME_WORDS).split()
    pieces = "abcdefghijklmnopqrstuvwxyz0123456789"
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces, *(f"##{piece}" for piece in pieces), *words]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    transformers().BertTokenizerFast(vocabulary).save_pretrained(folder)
    return len(vocabulary)


def write_bert(folder: Path) -> None:
    """bert-base-uncased in the names of its published file, which are older than the library's; width 48."""
    sizes = {"hidden_size": 48, "intermediate_size": 192, "num_attention_heads": 4, "num_hidden_layers": 12}
    config = transformers().BertConfig(vocab_size=write_tokenizer(folder), **sizes)
    transformers().BertForPreTraining(config).save_pretrained(folder)
    older = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for name, value in load_file(folder / "model.safetensors").items()
    }
    save_file(older, folder / "model.safetensors", metadata={"format": "pt"})


def write_distilbert(folder: Path) -> None:
    """distilbert-base-uncased, which comes with the head of its pre-training; width 48."""
    sizes = {"dim": 48, "hidden_dim": 192, "n_heads": 4, "n_layers": 6}
    config = transformers().DistilBertConfig(vocab_size=write_tokenizer(folder), **sizes)
    transformers().DistilBertForMaskedLM(config).save_pretrained(folder)


def write_blip(folder: Path) -> None:
    """blip-itm-base-coco; width 48."""
    sizes = {"hidden_size": BLIP["width"], "intermediate_size": BLIP["inner"], "num_attention_heads": BLIP["heads"]}
    vision = sizes | {"image_size": 384, "layer_norm_eps": 1e-5, "initializer_range": 0.02}
    size = write_tokenizer(folder) + 2  # the decoder's tokens, which the published tokenizer lacks
    text = sizes | {"vocab_size": size, "bos_token_id": size - 2, "sep_token_id": 3}
    config = transformers().BlipConfig(vision_config=vision, text_config=text, image_text_hidden_size=256)
    transformers().BlipForImageTextRetrieval(config).save_pretrained(folder)


def write_resnet50(file: Path) -> None:
    """torchvision's published file: a state dict, for ImageNet's 1,000 classes."""
    torch.save(Later("torchvision.models").resnet50().state_dict(), file)

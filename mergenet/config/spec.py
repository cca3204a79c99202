"""What a task requires of a network: the inputs that it gets and the outputs that it must return."""

import json
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

IMAGE, TEXT, IMAGE_TEXT = "image", "text", "image_text"  # inputs
CLASSES, SPAN, EMBEDDING = "classes", "span", "embedding"  # outputs


@dataclass(frozen=True)
class Spec:
    """A network's arguments and result, by `inputs` and `outputs`; L is `max_length`, S `image_size`.

    image        images float32 (N, 3, S, S)
    text         tokens int64 (N, L), mask int64 (N, L): 1 for tokens, 0 for padding
    image_text   images, tokens, mask

    classes      logits (N, num_outputs)
    span         start and end logits (N, L, 2); num_outputs is 2
    embedding    (image embeddings, text embeddings), each (N, num_outputs), of L2 norm 1
    """

    inputs: str
    outputs: str
    num_outputs: int
    image_size: int = 0  # pixels
    vocab_size: int = 0  # tokens are below it
    max_length: int = 0  # tokens

    def example(self, count: int) -> tuple[Tensor, ...]:
        """Random inputs for `count` examples, the same at every call; the global random generators are not touched."""
        generator = torch.Generator().manual_seed(count)
        shape = count, 3, self.image_size, self.image_size
        images = torch.randn(shape, generator=generator)
        if self.inputs == IMAGE:
            return (images,)
        tokens = torch.randint(0, self.vocab_size, (count, self.max_length), generator=generator)
        lengths = torch.randint(1, self.max_length + 1, (count, 1), generator=generator)
        mask = (torch.arange(self.max_length) < lengths).long()
        return (tokens, mask) if self.inputs == TEXT else (images, tokens, mask)

    @property
    def argument_names(self) -> tuple[str, ...]:
        return {IMAGE: ("images",), TEXT: ("tokens", "mask"), IMAGE_TEXT: ("images", "tokens", "mask")}[self.inputs]

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Spec":
        """Raises ValueError or TypeError for text that `to_json` did not write."""
        return cls(**json.loads(text))

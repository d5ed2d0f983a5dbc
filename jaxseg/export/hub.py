"""Model folders on the Hugging Face Hub: upload with ``push_to_hub``, load with ``jaxseg.load("hf:ORG/REPO")``."""

import os
import shutil
import tempfile
from pathlib import Path

from jaxseg.errors import BadInput
from jaxseg.export import folder
from jaxseg.export.folder import Card
from jaxseg.weights import hub, huggingface


def push_to_hub(path: str | os.PathLike[str], repository: str, *, private: bool = False, message: str = "") -> str:
    """Upload a folder written by ``jaxseg.save``, with a README from its card, and return the commit's URL.

    Uses ``HF_ENDPOINT`` or the public hub, and the credentials of ``HF_TOKEN`` or ``hf auth login``.

    >>> push_to_hub("no such folder", "org/unet")
    Traceback (most recent call last):
        ...
    jaxseg.errors.BadInput: no such folder is no folder of a model; jaxseg.save writes one

    Args:
      path: the folder.
      repository: ``org/name``; created if it does not exist.
      private: create a new repository as private.
      message: of the commit.

    Raises:
      BadInput: the folder is missing or damaged; the repository's name is invalid or not writable; the library is not
        installed (``pip install "jaxseg[hub]"``).
      FailedRun: the upload failed.
    """
    path = Path(path)
    if not path.is_dir() or not folder.is_model(path):
        raise BadInput(f"{path} is no folder of a model; jaxseg.save writes one")
    card, _ = folder.read(path)
    with tempfile.TemporaryDirectory() as made:
        for name in (folder.WEIGHTS, folder.CARD):
            shutil.copyfile(path / name, Path(made) / name)
        (Path(made) / "README.md").write_text(readme(card, repository), encoding="utf-8")
        return huggingface.push(Path(made), repository, hub.endpoint(), private=private, message=message)


def readme(card: Card, repository: str) -> str:
    """Return the README of the repository: the card, and how to load the model.

    >>> from jaxseg.models.semantic.unet import unet
    >>> from jaxseg.tasks.semantic import Semantic
    >>> card = Card(unet(num_classes=2), Semantic(2), "unet", ("road", "car"), ((0, 0, 0), (255, 0, 0)))
    >>> [line for line in readme(card, "org/unet").splitlines() if "classes" in line or "load" in line]
    ['UNet with 2 classes: road, car.', 'run = jaxseg.load("hf:org/unet")']
    """
    licence = f"license: {card.licence.lower()}\n" if card.licence and card.licence.isascii() else ""
    figures = "".join(f"- {name}: {figure:.6g}\n" for name, figure in card.metrics.items())
    return f"""---
library_name: jaxseg
pipeline_tag: image-segmentation
{licence}tags: [jax, flax]
---

# {card.name}

{type(card.model).__name__} with {len(card.classes)} classes: {", ".join(card.classes)}.

```python
import jaxseg

run = jaxseg.load("hf:{repository}")
prediction = jaxseg.predict(run, image)
```

{figures}"""

"""A model's folder on the Hugging Face hub: ``push_to_hub`` there, ``jaxseg.load("hf:ORG/REPO")`` back."""

import os
import shutil
import tempfile
from pathlib import Path

from jaxseg.errors import BadInput
from jaxseg.export import folder
from jaxseg.export.folder import Card
from jaxseg.weights import hub, huggingface


def push_to_hub(path: str | os.PathLike[str], repository: str, *, private: bool = False, message: str = "") -> str:
    """Upload a folder that ``jaxseg.save`` wrote, with a README made from its card, and return the commit's address.

    The hub is ``HF_ENDPOINT`` or the public one; ``HF_TOKEN`` or ``hf auth login`` say who writes.

    Args:
      path: the folder.
      repository: ``org/name``; made if there is none.
      private: whether a repository that is made is closed to others.
      message: of the commit.

    Raises:
      BadInput: no such folder, it is damaged; no repository's name, or one where this user may not write; the library
        is not installed (``pip install "jaxseg[hub]"``).
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
    """The page of the repository: what the card says, and how the model is loaded."""
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

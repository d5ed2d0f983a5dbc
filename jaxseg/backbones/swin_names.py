"""Names of Swin's weights in timm, torchvision, transformers and the authors' files."""

from jaxseg.types import Rules

Lines = tuple[tuple[str, str], ...]
"""Names and paths of stage ``{s}``, counted from 0, or ``{k}``, from 1; ``{even}`` and ``{odd}`` count what leads to a
stage too, and ``{before}`` is the stage before. A block's number is the regex's only group."""


def _of_stages(lines: Lines, *ignored: str) -> Rules:
    rules: dict[tuple[str, str | None], None] = {}
    for s in range(4):
        places = {"{s}": s, "{k}": s + 1, "{even}": 2 * s, "{odd}": 2 * s + 1, "{before}": s - 1, "{map}": s + 2}
        for line in lines:
            source, path = line
            for place, number in places.items():
                source, path = source.replace(place, str(number)), path.replace(place, str(number))
            rules[source, path] = None
    return (*rules, *((name, None) for name in ignored))


def _both(source: str, path: str, weight: str = "kernel|dense") -> Lines:
    return (rf"{source}\.weight", f"{path}/{weight}"), (rf"{source}\.bias", f"{path}/bias")


def _merge(source: str) -> Lines:
    return (
        *_both(rf"{source}\.norm", "merge{k}_norm", "scale"),
        (rf"{source}\.reduction\.weight", "merge{k}/kernel|dense"),
    )


def _block(source: str, layers: tuple[str, ...]) -> Lines:
    """Return the lines of the normalisations, the layer behind the attention and the feed-forward part."""
    dense = ((name, "kernel|dense") for name in ("attention/out", "expand", "reduce"))
    ours = (("norm1", "scale"), ("norm2", "scale"), *dense)
    return tuple(
        line
        for layer, (path, weight) in zip(layers, ours, strict=True)
        for line in _both(source + layer, rf"stage{{k}}_\1/{path}", weight)
    )


def _positions(source: str, layers: str, version: int) -> Lines:
    """Return the lines of the biases of positions: a table, or two dense layers, and the scale of the comparison."""
    attention = r"stage{k}_\1/attention/"
    if version == 1:
        return ((rf"{source}relative_position_bias_table", f"{attention}table"),)
    return (
        *_both(rf"{source}{layers}\.0", f"{attention}position1"),
        (rf"{source}{layers}\.2\.weight", f"{attention}position2/kernel|dense"),
        (rf"{source}logit_scale", f"{attention}logit_scale|c11"),
    )


def _in_one(source: str, version: int, *, with_key: bool) -> Lines:
    """Return the lines of queries, keys and values of one dense layer; the second version's keys have no bias, which
    is zeros in one library and left out in others.
    """
    attention = r"stage{k}_\1/attention/"
    weight = (rf"{source}qkv\.weight", attention + "{query,key,value}/kernel|dense")
    if version == 1:
        return weight, (rf"{source}qkv\.bias", attention + "{query,key,value}/bias")
    if with_key:
        return weight, (rf"{source}qkv\.bias", attention + "{query,,value}/bias")
    return weight, *((rf"{source}{n[0]}_bias", f"{attention}{n}/bias") for n in ("query", "value"))


_BUFFERS = r".*\.(relative_position_index|relative_coords_table|attn_mask|k_bias)"


def timm(version: int, *, of_maps: bool = False, official: bool = False) -> Rules:
    """Return rules from timm's classifier to the paths of :class:`jaxseg.backbones.swin.Swin`.

    >>> timm(1)[0]
    ('patch_embed\\\\.proj\\\\.weight', 'patches/kernel')

    Args:
      version: of Swin.
      of_maps: timm's network of maps (``features_only=True``) instead, which segmentation-models-pytorch takes.
      official: the authors' files (github.com/microsoft/Swin-Transformer), where a stage ends with what leads to the
        next, instead.
    """
    stage = r"layers_{s}" if of_maps else r"layers\.{s}"
    block = stage + r"\.blocks\.(\d+)\."
    return _of_stages(
        (
            *_both(r"patch_embed\.proj", "patches", "kernel"),
            *_both(r"patch_embed\.norm", "patches_norm", "scale"),
            *_merge((r"layers\.{before}" if official else stage) + r"\.downsample"),
            *_block(block, ("norm1", "norm2", r"attn\.proj", r"mlp\.fc1", r"mlp\.fc2")),
            *_in_one(block + r"attn\.", version, with_key=False),
            *_positions(block + r"attn\.", "cpb_mlp", version),
        ),
        _BUFFERS,
        *(() if of_maps else (r"(norm|head)\..*",)),
    )


def torchvision(version: int) -> Rules:
    """Return rules from torchvision's classifier.

    >>> torchvision(2)[0]
    ('features\\\\.0\\\\.0\\\\.weight', 'patches/kernel')
    """
    block = r"features\.{odd}\.(\d+)\."
    return _of_stages(
        (
            *_both(r"features\.0\.0", "patches", "kernel"),
            *_both(r"features\.0\.2", "patches_norm", "scale"),
            *_merge(r"features\.{even}"),
            *_block(block, ("norm1", "norm2", r"attn\.proj", r"mlp\.0", r"mlp\.3")),
            *_in_one(block + r"attn\.", version, with_key=True),
            *_positions(block + r"attn\.", "cpb_mlp", version),
        ),
        _BUFFERS,
        r"(norm|head)\..*",
    )


def transformers(version: int) -> Rules:
    """Return rules from published files of ``SwinForImageClassification``, ``SwinBackbone`` and those of the second
    version, and from the names that the first has in memory since transformers 5.

    >>> transformers(1)[0]
    ('(?:swin\\\\.|swinv2\\\\.)?embeddings\\\\.patch_embeddings\\\\.projection\\\\.weight', 'patches/kernel')
    """
    root = r"(?:swin\.|swinv2\.)?"
    block, attention = root + r"encoder\.layers\.{s}\.blocks\.(\d+)\.", r"stage{k}_\1/attention/"
    within, parts = block + r"attention\.self\.", ("query", "key", "value")
    norms = ("layernorm_before", "layernorm_after")
    return _of_stages(
        (
            *_both(root + r"embeddings\.patch_embeddings\.projection", "patches", "kernel"),
            *_both(root + r"embeddings\.norm", "patches_norm", "scale"),
            *_merge(root + r"encoder\.layers\.{before}\.downsample"),
            *_block(block, (*norms, r"attention\.output\.dense", r"intermediate\.dense", r"output\.dense")),
            *(line for n in parts for line in _both(within + n, attention + n)),
            *_positions(within, "continuous_position_bias_mlp", version),
            *_both(r"hidden_states_norms\.stage{k}", "c{map}_norm", "scale"),
            *_block(block, (*norms, r"attention\.o_proj", r"mlp\.fc1", r"mlp\.fc2")),
            *(line for n in parts for line in _both(rf"{block}attention\.{n[0]}_proj", attention + n)),
            (rf"{block}attention\.relative_position_bias\.relative_position_bias_table", f"{attention}table"),
        ),
        _BUFFERS,
        root + r"(layernorm\..*|embeddings\.mask_token)",
        r"classifier\..*",
    )

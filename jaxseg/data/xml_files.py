"""Parse XML of annotations, with limits: on its size, and on entities that may unfold into more than memory holds."""

from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from jaxseg.errors import BadInput


def parse(path: Path, most: int) -> Element:
    """Return the root element of a file.

    Args:
      path: the file.
      most: bytes above which it is refused.

    Raises:
      BadInput: it is absent, too large, no XML, or declares a document type.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "a.xml").write_text("<annotation><size/></annotation>")
    ...     parse(Path(folder) / "a.xml", 100).tag
    'annotation'
    """
    if not path.is_file():
        raise BadInput(f"there is no annotation {path}")
    if path.stat().st_size > most:
        raise BadInput(f"{path} has {path.stat().st_size} bytes; such annotations have at most {most}")
    builder, parser = TreeBuilder(), expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = builder.start, builder.end
    parser.CharacterDataHandler = builder.data

    def refuse(*_: object) -> None:
        raise BadInput(f"{path} declares a document type, which annotations have not; remove the line <!DOCTYPE ...>")

    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(path.read_bytes(), True)
    except expat.ExpatError as error:
        raise BadInput(f"{path} is no XML that can be read: {error}") from None
    return builder.close()

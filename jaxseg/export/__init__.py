"""Models handed on: jaxseg's own folder, StableHLO, torch state dicts, ONNX."""

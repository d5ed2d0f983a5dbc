"""Export trained models: jaxseg's own folder, StableHLO, torch state dicts, ONNX."""

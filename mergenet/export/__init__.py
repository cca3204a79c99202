"""The plain target network for use elsewhere: safetensors with its code, torch.export, ONNX."""

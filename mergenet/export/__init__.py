"""The plain target network for use elsewhere: safetensors with its code, torch.export, ONNX."""

FORMAT_NAMES = "safetensors", "torch-export", "onnx"  # formats.py has what they stand for; help must do without torch

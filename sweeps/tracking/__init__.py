"""Mirrors of a sweep elsewhere: Weights & Biases, TensorBoard, a copy at a URL."""

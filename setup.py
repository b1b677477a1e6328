"""Metadata of tfcomp; build system and tool settings live in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

setup(
    name="tfcomp",
    version="0.1.0",
    description="Small neural networks for Keras 3: prune, quantize, export small",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["tfcomp", "tfcomp.*"]),
    package_data={"tfcomp.layers": ["*.pyi"]},
    install_requires=[
        "keras>=3.13",
        "tensorflow>=2.20",
        "tensorflow-model-optimization>=0.8.1",
        "numpy>=2.0",
        "ml-dtypes>=0.5",
        # The files of `tfcomp.save` depend on how it rounds frequencies; a test watches that.
        "constriction>=0.4.1,<0.6",
        "rich>=13",
        "scikit-learn>=1.4",
    ],
    extras_require={
        "test": [
            "pytest>=8",
            "pytest-xdist>=3",
            "tensorboard>=2.19",
            "hypothesis>=6",
            "kmeans1d>=0.5",
            "matplotlib>=3.8",
            "ruff>=0.14",
        ],
        "docs": ["mkdocs-material>=9", "mkdocstrings[python]>=0.27"],
        # What writes these formats, and runs them to compare what was written.
        "litert": ["ai-edge-litert>=2"],
        "onnx": ["onnx>=1.17", "onnxruntime>=1.20", "tf2onnx>=1.16"],
        "openvino": ["openvino>=2025.0"],
        "viz": ["matplotlib>=3.8"],
        "sharing": ["kmeans1d>=0.5"],
    },
    classifiers=[
        "Programming Language :: Python :: 3",
        "License :: OSI Approved :: Apache Software License",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)

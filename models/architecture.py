"""The closed list of what an architecture may name, checked before Keras sees it.

Keras turns `module` and `class_name` into an import and a call. Its own `safe_mode` refuses Lambda
layers and little else, so only the classes here pass: built-in ones that compute and nothing more.
"""

import json
from typing import Any

from features.contract.errors import ModelGateError

LAYERS = (
    "Activation Add Average AveragePooling2D BatchNormalization Concatenate Conv2D Dense DepthwiseConv2D "
    "Dropout Flatten GlobalAveragePooling2D GlobalMaxPooling2D InputLayer LayerNormalization MaxPooling2D "
    "Maximum Multiply ReLU Rescaling Reshape SeparableConv2D Softmax SpatialDropout2D Subtract UnitNormalization "
    "ZeroPadding2D"
)
INITIALIZERS = (
    "Constant GlorotNormal GlorotUniform HeNormal HeUniform LecunNormal LecunUniform Ones RandomNormal "
    "RandomUniform TruncatedNormal VarianceScaling Zeros"
)
ALLOWED: dict[str | None, frozenset[str]] = {
    None: frozenset({"__keras_tensor__"}),
    "keras": frozenset({"DTypePolicy", "Functional"}),
    "keras.layers": frozenset(LAYERS.split()),
    "keras.initializers": frozenset(INITIALIZERS.split()),
    "keras.regularizers": frozenset({"L1", "L2", "L1L2"}),
    "keras.src.models.functional": frozenset({"Functional"}),
    "keras.src.ops.numpy": frozenset({"Add", "Concatenate", "Maximum", "Minimum", "Multiply", "Subtract"}),
}
NAMING_KEYS = ("class_name", "module", "registered_name")
REFUSED_KEYS = ("compile_config", "fn", "function", "lambda")


def check_architecture(data: bytes, name: str) -> None:
    """Raise ModelGateError for anything that is not JSON of allowed classes; `name` is for the message."""
    try:
        document = json.loads(data)
    except ValueError:
        raise ModelGateError(f"{name}: not JSON") from None
    if not isinstance(document, dict) or "class_name" not in document:
        raise ModelGateError(f"{name}: expected the JSON of a Keras model")
    _check(document, name)


def _check(node: Any, name: str) -> None:
    if isinstance(node, list):
        for item in node:
            _check(item, name)
    if isinstance(node, dict):
        if any(key in node for key in NAMING_KEYS):
            _check_names(node, name)
        if any(node.get(key) for key in REFUSED_KEYS):
            raise ModelGateError(f"{name}: a compiled model or a function; save the bare, uncompiled model")
        for value in node.values():
            _check(value, name)


def _check_names(node: dict[str, Any], name: str) -> None:
    found = tuple(node.get(key) for key in NAMING_KEYS)
    class_name, module, registered_name = found
    known = all(item is None or isinstance(item, str) for item in found)
    if not known or class_name not in ALLOWED.get(module, ()) or registered_name not in (None, class_name):
        raise ModelGateError(
            f"{name}: {module}.{class_name} (registered as {registered_name}) is not on the closed list of "
            "models/architecture.py; a bundle may hold built-in layers only"
        )

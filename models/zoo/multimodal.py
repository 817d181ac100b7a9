"""The network: a tower per modality, masked where the person lacks it, and a head of hazards."""

import math
from typing import Any

import keras

from features.contract.manifest import Manifest
from features.contract.training_settings import ModelSettings


def build_network(manifest: Manifest, settings: ModelSettings, modalities: list[str]) -> keras.Model:
    """Inputs as `feed.arrays.inputs` gives them; output `hazard_logits` [B, K], or for the Cox loss the
    `log_hazard` [B, 1].

    A vector tower is an MLP beside its own input, so the head holds a linear model; without
    `tower_units` it is that input alone. No layer mixes people: a padding row changes nothing. The
    untrained network predicts the prevalence, or no difference between people.
    """
    entries: dict[str, Any] = {}
    features = []
    for modality in modalities:
        entry = keras.Input(_shape(manifest, modality), name=modality)
        has = keras.Input((1,), name=f"has_{modality}")
        tower = _image_tower if modality == "imaging" else _vector_tower
        features += [
            keras.layers.Multiply(name=f"{modality}_masked")([tower(entry, settings, modality), has]),
            has,
        ]
        entries |= {modality: entry, f"has_{modality}": has}
    together = keras.layers.Concatenate(name="features")(features)
    return keras.Model(entries, _head(manifest, settings)(together), name="multimodal")


def _head(manifest: Manifest, settings: ModelSettings) -> keras.layers.Dense:
    cox = settings.loss == "cox"
    prevalence = keras.initializers.Constant(0.0 if cox else _prevalence_logit(manifest))
    return keras.layers.Dense(
        1 if cox else len(manifest.edges),
        kernel_initializer="zeros",
        bias_initializer=prevalence,
        name="log_hazard" if cox else "hazard_logits",
        # A half-precision logit would cost the loss its digits.
        dtype="float32" if settings.precision.startswith("mixed") else None,
    )


def _shape(manifest: Manifest, modality: str) -> tuple[int, ...]:
    if modality == "imaging":
        return tuple(manifest.image_shape or ())
    return (2 * len(manifest.vocabulary[modality]),)


def _vector_tower(entry: Any, settings: ModelSettings, name: str) -> Any:
    if not settings.tower_units:
        return entry
    x = entry
    for depth, units in enumerate(settings.tower_units):
        x = keras.layers.Dense(units, activation="relu", name=f"{name}_dense_{depth}")(x)
        x = keras.layers.Dropout(settings.dropout, name=f"{name}_dropout_{depth}")(x)
    return keras.layers.Concatenate(name=f"{name}_tower")([x, entry])


def _image_tower(entry: Any, settings: ModelSettings, name: str) -> Any:
    """Convolutions, then how much of each feature there is over the whole image.

    The average over p places is scaled by sqrt(p): lesions fill few places, and their plain average
    would be too small for the head to learn from in the epochs there are.
    """
    x = keras.layers.Rescaling(2.0, offset=-1.0, name=f"{name}_centred")(entry)
    for depth, filters in enumerate(settings.filters):
        x = keras.layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"{name}_conv_{depth}")(x)
        # Same padding, so that a small image survives any number of blocks.
        x = keras.layers.MaxPooling2D(2, padding="same", name=f"{name}_pool_{depth}")(x)
    places = x.shape[1] * x.shape[2]
    x = keras.layers.GlobalAveragePooling2D(name=f"{name}_average")(x)
    x = keras.layers.Rescaling(math.sqrt(places), name=f"{name}_tower")(x)
    return keras.layers.Dropout(settings.dropout, name=f"{name}_dropout")(x)


def _prevalence_logit(manifest: Manifest) -> float:
    """The logit of the constant hazard per interval that gives the outcome's share in train."""
    rows, positives = manifest.rows.get("train", 0), manifest.positives.get("train", 0)
    share = (positives + 0.5) / (rows + 1)
    hazard = 1 - (1 - share) ** (1 / len(manifest.edges))
    return math.log(hazard / (1 - hazard))

"""Training of QCFS networks: recipes, states that can be gone on from, adaptive levels."""

from pascal_nm.training.loop import (
    PAPER_THRESHOLD,
    RECIPES,
    Progress,
    TrainingConfig,
    defaults,
    is_main_process,
    paper_recipe,
    recipe,
    state_file,
    train,
    train_adaptively,
    train_to_file,
    uniform_file,
)

__all__ = [
    "PAPER_THRESHOLD",
    "RECIPES",
    "Progress",
    "TrainingConfig",
    "defaults",
    "is_main_process",
    "paper_recipe",
    "recipe",
    "state_file",
    "train",
    "train_adaptively",
    "train_to_file",
    "uniform_file",
]

"""Published scaling laws of MoE models, each with the range that it was fitted on. None predicts reasoning."""

from turnout.sparsity.laws.abnar import ABNAR, abnar_loss
from turnout.sparsity.laws.joint_moe import JOINT_MOE, joint_moe_loss
from turnout.sparsity.laws.krajewski import KRAJEWSKI, krajewski_loss
from turnout.sparsity.laws.law import Law, Prediction, Scale

LAWS: tuple[Law, ...] = (JOINT_MOE, ABNAR, KRAJEWSKI)

__all__ = ["LAWS", "Law", "Prediction", "Scale", "abnar_loss", "joint_moe_loss", "krajewski_loss"]

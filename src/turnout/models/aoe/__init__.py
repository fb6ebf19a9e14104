"""AoE, Autonomy of Experts (arXiv 2501.13074), as a transformers model: `model_type` "turnout_aoe".

Importing this package registers it with `AutoConfig`, `AutoModel` and `AutoModelForCausalLM`; `turnout.load` and
`turnout train` import it when needed. transformers alone does not have the type, and a checkpoint contains no code:
elsewhere, `import turnout.models.aoe` first.
"""

from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from turnout.models.aoe.configuration import AoeConfig
from turnout.models.aoe.modeling import AoeForCausalLM, AoeModel

AutoConfig.register(AoeConfig.model_type, AoeConfig)
AutoModel.register(AoeConfig, AoeModel)
AutoModelForCausalLM.register(AoeConfig, AoeForCausalLM)

__all__ = ["AoeConfig", "AoeForCausalLM", "AoeModel"]

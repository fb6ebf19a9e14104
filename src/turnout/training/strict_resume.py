"""A Trainer that resumes with every weight of its checkpoint, or not at all."""

from typing import Any

from transformers import PreTrainedModel


class StrictResume:
    """Put before a transformers Trainer among a class's bases.

    transformers' own loading goes by names and is lenient: experts are saved one by one but kept fused, so that a
    resumed model would go on with the optimiser's state and untrained experts.
    """

    model: Any
    is_fsdp_enabled: bool
    is_deepspeed_enabled: bool

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: PreTrainedModel | None = None) -> None:
        """Every weight of the checkpoint, or an error."""
        if self.is_fsdp_enabled or self.is_deepspeed_enabled or not isinstance(self.model, PreTrainedModel):
            super()._load_from_checkpoint(resume_from_checkpoint, model)  # type: ignore[misc]  # the Trainer's
            return
        target = model or self.model
        saved = type(target).from_pretrained(resume_from_checkpoint, dtype=target.dtype, use_safetensors=True)
        target.load_state_dict(saved.state_dict())

"""SONAR's text decoder: a row of its space → a text in any of its languages."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seamlessalign.embedders.batches import torch_dtype
from seamlessalign.embedders.sonar.checkpoints import TEXT_DECODER, Checkpoint, save_tensors
from seamlessalign.embedders.sonar.text import MAX_TOKENS, m2m_config
from seamlessalign.embedders.sonar.tokenizer import EOS, Tokenizer
from seamlessalign.errors import InputError
from seamlessalign.model_files import find_model

Float32 = npt.NDArray[np.float32]

_BEAMS = 5
_BATCH_ROWS = 32


class SonarTextDecoder:
    """Rows, from texts or from speech, as the encoders give them: not centred, not of unit length → texts."""

    def __init__(self, weights: Path, *, device: str = "cpu", dtype: str = "auto") -> None:
        """Load a checkpoint in any of the known styles, with the tokenizer that lies beside it.

        Args:
            weights: the file.
            device: torch device name.
            dtype: float32, float16, bfloat16, or auto: float16 on a GPU, else float32.

        Raises:
            ModelError: a file that is missing, unsafe, damaged, or not a text decoder of SONAR.
        """
        import torch
        from transformers import M2M100ForConditionalGeneration

        self.device = torch.device(device)
        self.tokenizer = Tokenizer(weights.parent)
        checkpoint = Checkpoint(weights, TEXT_DECODER)
        self.model: Any = M2M100ForConditionalGeneration(m2m_config(checkpoint, "decoder"))
        checkpoint.load_into(self.model.model.decoder)  # its embedding table is also what its outputs are read with
        self.tokenizer.check_table(self.model.config.vocab_size, weights)
        self.model.to(self.device, torch_dtype(dtype, self.device)).eval()
        self.dim = int(self.model.config.d_model)

    def decode(self, rows: Float32, lang: str, *, max_tokens: int = MAX_TOKENS) -> list[str]:
        """Write the texts of rows in a language, the best of a beam of 5.

        Args:
            rows: float32 `(num_rows, dim)` of `encode` of an encoder, with their length.
            lang: ISO 639-3 of the language to write in.
            max_tokens: of a text, at most.

        Raises:
            InputError: rows of another size or not finite, or a language that SONAR does not know.
        """
        rows = np.asarray(rows, np.float32)
        if rows.ndim != 2 or rows.shape[1] != self.dim:
            raise InputError(f"rows are {'×'.join(map(str, rows.shape))}, the decoder reads n×{self.dim}")
        if not np.isfinite(rows).all():
            raise InputError(f"row {int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])} is not finite")
        tag, texts = self.tokenizer.tag(lang), []
        for start in range(0, len(rows), _BATCH_ROWS):
            written = self._tokens(rows[start : start + _BATCH_ROWS], tag, max_tokens)
            texts += [self.tokenizer.decode(tokens) for tokens in written]
        return texts

    def save(self, path: Path) -> None:
        """Write the weights as .safetensors, in the precision they are held in; they load as a checkpoint does."""
        save_tensors(self.model.model.decoder, path)

    def _tokens(self, rows: Float32, tag: int, max_tokens: int) -> Sequence[Sequence[int]]:
        import torch
        from transformers.modeling_outputs import BaseModelOutput

        hidden = torch.from_numpy(rows)[:, None].to(self.device, self.model.dtype)
        with torch.inference_mode():
            tokens = self.model.generate(
                encoder_outputs=BaseModelOutput(last_hidden_state=hidden),
                attention_mask=torch.ones(hidden.shape[:2], dtype=torch.long, device=self.device),
                decoder_input_ids=torch.tensor([[EOS, tag]] * len(rows), device=self.device),
                num_beams=_BEAMS,
                do_sample=False,
                early_stopping=True,
                max_new_tokens=max_tokens,
            )
        return [[int(token) for token in row] for row in tokens.tolist()]


def load_decoder(
    name: str = "sonar-decoder", directory: str | None = None, device: str = "cpu", dtype: str = "auto"
) -> SonarTextDecoder:
    """Load a text decoder by its short name: `sonar-decoder`, or `sonar-decoder-finetuned`."""
    return SonarTextDecoder(find_model(name, directory).weights[0], device=device, dtype=dtype)

"""What UnitY's outputs are worth: losses of single tokens, which whoever calls sums and divides.

A process sees a part of a batch, and parts have different numbers of tokens. So nothing is averaged here: the mean is
over the tokens of all processes.

    L = α·L_S2TT + β·L_T2TT + γ·L_KD + δ·L_T2U

The first three are those of the SeamlessM4T paper (arXiv 2308.11596, section on X2T models), the last is the negative
log likelihood of the target's reduced units, which follow the decoder's states.
"""

from dataclasses import dataclass
from typing import Any, Literal

Smoothing = Literal["wrong", "all"]


@dataclass(frozen=True)
class TokenLosses:
    """Of each token, `(num_tokens,)`; float32 where logits are of half precision, else as they are."""

    loss: Any  # what is learnt: with label smoothing
    nll: Any  # -log p(token), in nats; without
    right: Any  # 1 where it is the most likely one, else 0


def token_losses(logits: Any, labels: Any, smoothing: float = 0.0, over: Smoothing = "wrong") -> TokenLosses:
    """The cross entropy of logits `(num_tokens, num_classes)` with smoothed labels `(num_tokens,)`.

    smoothing: the share ε of the target distribution that is spread evenly
        over `wrong`: the other V - 1 classes; the right one keeps 1 - ε (fairseq2, so Meta's fine-tuning);
        over `all`: all V classes; the right one has 1 - ε + ε / V (Szegedy et al. 2016, arXiv 1512.00567; torch).
    """
    logs = _precise(logits).log_softmax(-1)
    own = logs.gather(-1, labels[:, None])[:, 0]
    right = (logs.argmax(-1) == labels).to(logs.dtype)
    if not smoothing:
        return TokenLosses(-own, -own.detach(), right)
    num_classes = logs.shape[-1]
    if over == "wrong":
        spread = smoothing / (num_classes - 1)
        loss = -(1 - smoothing - spread) * own - spread * logs.sum(-1)
    else:
        loss = -(1 - smoothing) * own - smoothing / num_classes * logs.sum(-1)
    return TokenLosses(loss, -own.detach(), right)


def token_divergence(teacher: Any, student: Any, *, teacher_learns: bool = False) -> Any:
    """KL(p_teacher ‖ p_student) of logits `(num_tokens, num_classes)`, at temperature 1, in nats: `(num_tokens,)`.

    teacher_learns: gradients flow to the teacher too. By default they do not: it is the text side, which has a loss of
    its own, and the divergence would pull it towards the side that knows less.
    """
    teacher = _precise(teacher).log_softmax(-1)
    if not teacher_learns:
        teacher = teacher.detach()
    return (teacher.exp() * (teacher - _precise(student).log_softmax(-1))).sum(-1)


def _precise(logits: Any) -> Any:
    return logits if logits.element_size() > 2 else logits.float()

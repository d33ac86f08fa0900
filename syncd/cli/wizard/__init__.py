"""The questions of `syncd init` on a terminal: each answer is checked before the next question."""
